"""What a handler sees: Request, Response, Context. The standard library only: this runs inside every worker.

Exported by ``tailcut``; the worker makes Request and Context, a handler makes Response. What always holds: importing
this does no work and reads nothing.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Context", "Headers", "Request", "Response"]


class Headers(Mapping[str, str]):
    """Header fields by name, in any case; one that came more than once is joined by ``, `` (``get_all`` has each)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._fields))

    def __len__(self) -> int:
        return len(dict(self._fields))

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for field, value in self._fields if field == wanted]

    def __repr__(self) -> str:
        return f"Headers({sorted(self)})"


class Request:
    """One HTTP request. ``path`` is what follows the function's name (``/`` at least), percent-decoded."""

    __slots__ = ("_query", "body", "headers", "method", "path", "query_string", "request_id")

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        query_string: str = "",
        headers: Headers | Mapping[str, str] | None = None,
        body: bytes = b"",
        request_id: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers if isinstance(headers, Headers) else Headers((headers or {}).items())
        self.body = body
        self.request_id = request_id
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """Arguments of the query, percent-decoded; of a repeated one the last (``query_all`` has each)."""
        if self._query is None:
            self._query = dict(parse_qsl(self.query_string, keep_blank_values=True))
        return self._query

    @property
    def query_all(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query_string, keep_blank_values=True):
            result.setdefault(name, []).append(value)
        return result

    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises json.JSONDecodeError."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} {len(self.body)} bytes>"


class Response:
    """An answer with a status and headers of its own.

    ``body``: bytes and str go out as they are, anything else as JSON. ``headers``: a mapping (a list as value repeats
    the field) or pairs; Content-Type is guessed from the body unless given.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: Any = b"",
        status: int = 200,
        headers: Mapping[str, str | list[str]] | Iterable[tuple[str, str]] | None = None,
        content_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        fields: list[tuple[str, str]] = []
        for name, value in headers.items() if isinstance(headers, Mapping) else headers or ():
            fields.extend((name, each) for each in (value if isinstance(value, list) else [value]))
        if content_type is not None:
            fields.append(("content-type", content_type))
        self.headers = fields

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class Context:
    """About one invocation. Has the attributes of AWS Lambda's context, so that such handlers run unchanged; except
    ``memory_limit_in_mb``, since no memory limit is enforced yet."""

    __slots__ = ("_deadline_ns", "aws_request_id", "function_name", "function_version", "tenant")

    identity = None
    client_context = None

    def __init__(
        self, *, request_id: str = "", tenant: str = "", function: str = "", version: str = "", deadline_ns: int = 0
    ) -> None:
        self.aws_request_id = request_id
        self.tenant = tenant
        self.function_name = function
        self.function_version = version
        self._deadline_ns = deadline_ns

    @property
    def request_id(self) -> str:
        return self.aws_request_id

    @property
    def invoked_function_arn(self) -> str:
        return f"tailcut:{self.tenant}:{self.function_name}:{self.function_version}"

    @property
    def log_group_name(self) -> str:
        return f"/{self.tenant}/{self.function_name}"

    @property
    def log_stream_name(self) -> str:
        return self.function_version

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the wall-clock limit ends this invocation."""
        return max(0, (self._deadline_ns - time.monotonic_ns()) // 1_000_000)

    def __repr__(self) -> str:
        return f"<Context {self.function_name} {self.aws_request_id}>"
