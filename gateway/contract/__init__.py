"""What crosses a process boundary, as types: one module per conversation.

- ``table``     control plane → gateways, through Redis: the complete desired state
- ``report``    gateways → control plane, through a Redis stream: what became of a version
- ``revision``  host → Zig: the complete effective state of one node
- ``worker``    host → zygote → worker (spawn document) and back (ready, start failure)
- ``metrics``   Zig → host: the counters
- ``bundle``    CLI → control plane → gateway: the archive of a version and its manifest

Imported by control_plane and gateway; imports neither.
"""
