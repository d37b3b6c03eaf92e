"""`make bench`: our gateway beside others, interleaved in one run on one machine. The map, in reading order:

- ``__main__``  the command: parts, rounds, what counts as a failure
- ``workloads``  what every peer is asked;  ``hello/``, ``apps``, ``floor/``  the functions that answer
- ``peers``     who is measured: one small class each; add yours there;  ``tailcut_server``  ours
- ``load``      wrk: as fast as it goes;  ``openloop``  at a given rate, without coordinated omission
- ``cold``      first calls, bursts, memory of idle workers;  ``zygote_fork``  what they are compared with
- ``neighbour`` p99 beside eight that burn CPU;  ``neighbour_load``  its client, and who keeps the eight busy
- ``crowd``     many functions on a node;  ``rewind``  what going back costs;  ``soak``  minutes of load
- ``figures``   what was to be reached, and was;  ``report``  tables, JSON, the chart;  ``host``  ports and programs
"""
