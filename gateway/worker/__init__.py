"""The Python side of a worker: imports the handler, adapts it to frames, describes what went wrong.

In reading order: ``main`` (a worker's life), ``loader`` (the import), ``signature`` (which style), ``typed``,
``request_style``, ``event`` (the styles), ``answer`` (results to bytes), ``failure`` (exceptions to bytes), ``head``,
``convert``, ``openapi``, ``aio``, ``output``. Imports the standard library, msgspec, ``tailcut._handler`` and the
contract, nothing else; and nothing late: once a worker runs, these modules are hidden from tenant code.
"""
