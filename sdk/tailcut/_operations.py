"""What both clients are made of: where the server is, and each longer operation as steps that are not carried out.

``_client`` and ``_async_client`` perform the steps, each in its way. What an operation sends and how its answer is read
is in _calls; when it is repeated in _transport.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import dumps
from os import PathLike
from pathlib import Path
from typing import IO, Any

import httpx

from tailcut import _calls as calls
from tailcut import _deploy as deploying
from tailcut import _models as models
from tailcut import _profile as profiles
from tailcut import _project as projects
from tailcut._answers import Answer
from tailcut._calls import Call
from tailcut._deploy import Progress, Silent
from tailcut._errors import ConfigurationError
from tailcut._transport import RETRIES_DEFAULT, Steps, Work, exchange

CONNECT_TIMEOUT = timedelta(seconds=5)
TIMEOUT_DEFAULT = timedelta(seconds=60)
LOG_WAIT_DEFAULT = timedelta(seconds=10)
"""The longest that the server waits for lines."""
NEVER_PROXIED = ("all://localhost", "all://127.0.0.1", "all://[::1]")
"""A server on this machine is never behind a proxy, whatever the environment says about others."""


@dataclass(slots=True)
class _Place:
    """Where functions answer; asked for once, if it was not given."""

    gateway_url: str | None
    tenant: str | None


@dataclass(frozen=True, slots=True)
class _Access:
    server: str
    key: str = field(repr=False)


class Operations:
    """What both clients are made of."""

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        gateway_url: str | None = None,
        tenant: str | None = None,
        timeout: timedelta = TIMEOUT_DEFAULT,
        retries: int = RETRIES_DEFAULT,
    ) -> None:
        """Without ``server`` and ``key`` they come from TAILCUT_SERVER and TAILCUT_KEY or the profile.

        ``timeout`` bounds each wait for bytes of an answer; ``retries`` how often something that was certainly not
        executed is sent again.
        """
        if retries < 0:
            raise ConfigurationError(f"retries is {retries}; 0 and more are allowed")
        credentials = profiles.find(server=server, key=key)
        self._access = _Access(server=credentials.server, key=credentials.key)
        self._place = _Place(gateway_url or credentials.gateway_url, tenant or credentials.tenant)
        self._timeout = timeout
        self._retries = retries
        self._open()

    def _open(self) -> None:
        """Makes the connection pool; nothing is connected yet."""
        raise AssertionError("each client has its own")

    @property
    def server(self) -> str:
        """The control plane's address."""
        return self._access.server

    def __repr__(self) -> str:
        return f"{type(self).__name__}(server={self._access.server!r}, key={mask(self._access.key)!r})"

    def _exchange[T](self, call: Call[T]) -> Steps[T]:
        return exchange(call, retries=self._retries)

    def _located(self) -> Steps[tuple[str, str]]:
        """The gateway's address and the tenant's name."""
        if self._place.gateway_url is None:
            self._place.gateway_url = (yield from self._exchange(calls.get_runtime(self.server))).gateway_url
        if self._place.tenant is None:
            self._place.tenant = (yield from self._exchange(calls.get_tenant(self.server))).name
        return self._place.gateway_url, self._place.tenant

    def _deploy(
        self,
        path: str | PathLike[str],
        settings: projects.Settings,
        ready_timeout: timedelta,
        progress: Progress | None,
    ) -> Steps[models.Deployment]:
        project: projects.Project = yield Work(lambda: projects.load(Path(path), settings))
        runtime = yield from self._exchange(calls.get_runtime(self.server))
        return (
            yield from deploying.deploy(
                project,
                server=self.server,
                runtime=runtime,
                retries=self._retries,
                ready_timeout=ready_timeout,
                progress=progress or Silent(),
            )
        )

    def _invoke(self, function: str, arguments: Mapping[str, Any]) -> Steps[Any]:
        gateway_url, tenant = yield from self._located()
        return (
            yield from self._exchange(calls.invoke_function(gateway_url, tenant, function, arguments, timeout=None))
        )

    def _call(
        self,
        function: str,
        *,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | str | None,
        json: Any,
        timeout: timedelta | None,
    ) -> Steps[models.Invocation]:
        gateway_url, tenant = yield from self._located()
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not None:
            if content is not None:
                raise ConfigurationError("both content and json are given; a request has one body")
            content = dumps(json)
            sent.setdefault("content-type", "application/json")
        call = calls.call_function(
            gateway_url,
            tenant,
            function,
            method=method,
            path=path,
            params=params,
            headers=sent,
            content=content.encode() if isinstance(content, str) else content,
            timeout=timeout,
        )
        return (yield from self._exchange(call))

    def _arguments(self, call: Call[Any], file: IO[bytes] | None) -> dict[str, Any]:
        """``call`` as httpx's clients take it."""
        read_s = (call.read_timeout or self._timeout).total_seconds()
        headers = {
            "authorization": f"Bearer {self._access.key}",
            "user-agent": f"tailcut-python/{_version()}",
            **call.headers,
        }
        arguments: dict[str, Any] = {
            "method": call.method,
            "url": call.url,
            "headers": headers,
            "timeout": httpx.Timeout(read_s, connect=CONNECT_TIMEOUT.total_seconds()),
        }
        if call.params:
            arguments["params"] = dict(call.params)
        if call.content is not None:
            arguments["content"] = call.content
        if file is not None:
            arguments["data"] = dict(call.form or {})
            arguments["files"] = {"bundle": ("bundle.zip", file, "application/zip")}
        return arguments


def mask(key: str) -> str:
    """A key as it may be shown: enough to recognise it, too little to use it."""
    return f"{key[:8]}…" if len(key) >= 24 else "…"


class _Counted:
    """A file that tells how much of it was read: the upload's progress."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._progress.advance("upload", len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


def counted(file: IO[bytes], progress: Progress | None) -> Any:
    return file if progress is None else _Counted(file, progress)


def answer_of(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, content=response.content)


def moment(when: datetime | None) -> str | None:
    if when is None:
        return None
    if when.tzinfo is None:
        raise ConfigurationError(f"expires_at is {when}, which has no time zone", hint="datetime.now(UTC) + …")
    return when.isoformat()


def _version() -> str:
    from tailcut import __version__

    return __version__
