"""The data plane's Python side: one asyncio process per node; hands Zig complete tables, takes records away.

Read in this order:

- ``node``          the life of the process, from start to drain; everything below hangs on it
- ``table_feed``    the control plane's table: from Redis, else from disk
- ``versions``      wanted → fetched → probing → ready | failed, one state machine per version
- ``bundles``       a bundle from the store to a read-only folder
- ``routing``       table + versions → the revision for Zig; ``openapi`` writes the tenants' documents
- ``memory``        what a restart must remember: ready versions, what was served
- ``reports``       what became of a version, to the control plane
- ``function_log``  the functions' output, to a file
- ``admin``, ``telemetry``, ``workers``  the admin port
- ``files``, ``logs``       small helpers
"""
