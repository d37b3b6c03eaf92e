"""Control groups behind one small interface with two back ends, cgroup v1 and v2. Imports nobody.

Called by the zygote (one group per worker), the supervisor (sweeps what dead instances left) and the doctor. In
reading order: ``files`` (the kernel's files), ``hierarchy`` (what is mounted, where our own group is), ``bounds`` (what
is written where in v1 and v2), ``group`` (one group), ``instance`` (the parent of a server's groups).
"""
