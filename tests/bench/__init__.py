"""`make bench`: our gateway beside others, interleaved in one run on one machine. The map, in reading order:

- ``__main__``  the command: rounds, what counts as a failure
- ``peers``     who is measured: one small class each; add yours there
- ``load``      wrk: how requests are sent and what is counted
- ``report``    the table, the JSON, the chart
- ``apps``      the same function as an ASGI and as a FastAPI application
- ``hello/``    the same function for Tailcut;  ``floor/``  the least that an isolated function can cost
"""
