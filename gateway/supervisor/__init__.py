"""One process tree on one machine: the sockets, Valkey, the control plane, the zygote and the gateway.

- ``cli``        the command ``tailcut-server``
- ``tree``       the supervisor itself: what runs, in which order it starts and ends, reload
- ``child``      one supervised process: start, log, restart with back-off, end
- ``reaper``     who has died: children, and orphans that came to us
- ``programs``   how each child is started: command line, environment, descriptors
- ``sockets``    the listening sockets that outlive every child
- ``instance``   one supervisor per data folder; what `status` and `down` read
- ``welcome``    the development tenant, the first function, its first call
- ``checks``     what this machine must offer
- ``console``    what people see
"""
