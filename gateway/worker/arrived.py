"""The ``tailcut.Request`` that a handler is given: its head is taken apart when the handler first asks for it.

Made by ``adapter`` for each invocation of the request style. Why: taking a head apart costs as much as all else that
the worker does for a call, and many handlers want the body only. What always holds: it has every attribute of a
Request, and is one.
"""

from typing import Any

import tailcut._handler

from gateway.worker import head


class Request(tailcut._handler.Request):
    __slots__ = ("_raw_head",)

    def __init__(self, body: bytes, raw_head: bytes | None) -> None:
        # Only what costs nothing: the others are filled in by __getattr__.
        self.body = body
        self._query = None
        self._raw_head = raw_head

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are plain Requests: nobody else can import this module."""
        about = (self.method, self.path, self.query_string, self.headers, self.body, self.request_id)
        return tailcut._handler.Request, about

    def __getattr__(self, name: str) -> Any:
        """Of slots that are still empty, and of names that no request has."""
        if name not in _LATE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        about = head.read(self._raw_head) if self._raw_head is not None else head.NONE
        values = {
            "method": about.method,
            "path": about.path,
            "query_string": about.query,
            "headers": tailcut._handler.Headers(about.headers),
            "request_id": about.request_id,
        }
        for late in _LATE:
            # What the handler has set itself stays.
            try:
                object.__getattribute__(self, late)
            except AttributeError:
                setattr(self, late, values[late])
        return object.__getattribute__(self, name)


_LATE = frozenset({"method", "path", "query_string", "headers", "request_id"})
