"""``Client`` and ``AsyncClient``: the same operations, performed synchronously or asynchronously.

What an operation sends and how its answer is read is in _calls; when it is repeated in _transport; both are shared.
Here a step is only carried out. Used by programs (``tailcut.Client``) and by the command line.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import dumps
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from tailcut import _calls as calls
from tailcut import _deploy as deploying
from tailcut import _models as models
from tailcut import _profile as profiles
from tailcut import _project as projects
from tailcut._answers import Answer
from tailcut._calls import PAGE_SIZE_DEFAULT, Call, Scope
from tailcut._deploy import READY_TIMEOUT_DEFAULT, Progress, Silent
from tailcut._errors import ConfigurationError
from tailcut._transport import RETRIES_DEFAULT, Pause, Send, Step, Steps, Work, exchange

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


class _Operations:
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


class Client(_Operations):
    """Deploys, manages and calls functions.

    >>> with tailcut.Client() as client:  # doctest: +SKIP
    ...     client.deploy("hello.py")
    ...     client.invoke("hello", name="Ada")
    """

    def _open(self) -> None:
        self._http = httpx.Client(follow_redirects=False, mounts=dict.fromkeys(NEVER_PROXIED))

    def deploy(
        self,
        path: str | PathLike[str],
        *,
        name: str | None = None,
        handler: str | None = None,
        timeout: timedelta | None = None,
        concurrency: int | None = None,
        workers_min: int | None = None,
        state: str | None = None,
        public: bool | None = None,
        alias: str | None = None,
        cpu: timedelta | None = None,
        memory: int | None = None,
        tmp: int | None = None,
        output: int | None = None,
        log: int | None = None,
        open_files: int | None = None,
        processes: int | None = None,
        network: bool | None = None,
        ready_timeout: timedelta = READY_TIMEOUT_DEFAULT,
        progress: Progress | None = None,
    ) -> models.Deployment:
        """Packs, uploads and starts what is at ``path``; returns when a worker of it is ready.

        ``timeout`` (wall clock) and ``cpu`` bound one invocation; ``memory``, ``tmp``, ``output``, ``log`` are bytes.
        What the tier allows may be less, and is then what holds. ``network``: it may connect to public addresses.

        Raises ProjectError, DependencyError, StartFailed, StartTimeout, or what any call may raise.
        """
        settings = projects.Settings(
            name, handler, timeout, concurrency, workers_min, state, public, alias,
            cpu, memory, tmp, output, log, open_files, processes, network,
        )  # fmt: skip
        return self._run(self._deploy(path, settings, ready_timeout, progress), progress)

    def invoke(self, function: str, /, **arguments: Any) -> Any:
        """Calls a typed function; returns its value. ``function`` may be ``name@alias``.

        Raises InvalidArguments, FunctionError, FunctionCrashed, FunctionTimeout, QuotaExceeded, TierLimit, …
        """
        return self._run(self._invoke(function, arguments))

    def call(
        self,
        function: str,
        *,
        method: str = "POST",
        path: str = "",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
        timeout: timedelta | None = None,
    ) -> models.Invocation:
        """Any HTTP request to a function; every status is returned, none is raised."""
        return self._run(
            self._call(
                function,
                method=method,
                path=path,
                params=params,
                headers=headers,
                content=content,
                json=json,
                timeout=timeout,
            )
        )

    def runtime(self) -> models.Runtime:
        return self._run(self._exchange(calls.get_runtime(self.server)))

    def tenant(self) -> models.Tenant:
        return self._run(self._exchange(calls.get_tenant(self.server)))

    def functions(self, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None) -> models.Page[models.Function]:
        return self._run(self._exchange(calls.list_functions(self.server, limit=limit, cursor=cursor)))

    def function(self, name: str) -> models.Function:
        return self._run(self._exchange(calls.get_function(self.server, name)))

    def set_public(self, name: str, public: bool) -> models.Function:
        return self._run(self._exchange(calls.update_function(self.server, name, public=public)))

    def delete(self, name: str) -> None:
        """Deletes the function with all its versions and aliases."""
        return self._run(self._exchange(calls.delete_function(self.server, name)))

    def versions(
        self, name: str, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None
    ) -> models.Page[models.Version]:
        return self._run(self._exchange(calls.list_versions(self.server, name, limit=limit, cursor=cursor)))

    def version(self, name: str, version: str) -> models.Version:
        return self._run(self._exchange(calls.get_version(self.server, name, version)))

    def alias(self, name: str, alias: str, version: str) -> models.Alias:
        """Points an alias at a version; creates it if need be."""
        return self._run(self._exchange(calls.put_alias(self.server, name, alias, version)))

    def delete_alias(self, name: str, alias: str) -> None:
        """Deletes an alias; ``live`` cannot be deleted."""
        return self._run(self._exchange(calls.delete_alias(self.server, name, alias)))

    def rollback(self, name: str) -> models.Alias:
        """Points ``live`` at the version it pointed at before."""
        return self._run(self._exchange(calls.rollback(self.server, name)))

    def keys(self, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None) -> models.Page[models.Key]:
        return self._run(self._exchange(calls.list_keys(self.server, limit=limit, cursor=cursor)))

    def create_key(
        self, *, scopes: tuple[Scope, ...], name: str | None = None, expires_at: datetime | None = None
    ) -> models.NewKey:
        expires = _moment(expires_at)
        return self._run(self._exchange(calls.create_key(self.server, name=name, scopes=scopes, expires_at=expires)))

    def delete_key(self, key_id: str) -> None:
        """Revokes a key, at once and everywhere."""
        self._run(self._exchange(calls.delete_key(self.server, key_id)))

    def logs(
        self, filters: Mapping[str, str] | None = None, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None
    ) -> dict[str, Any]:
        """What functions printed: ``items``, the newest first, ``next_cursor``, and ``follow`` for ``follow_logs``.

        ``filters``: function, version, request_id, contains, stream, since, until."""
        return self._run(self._exchange(calls.list_logs(self.server, filters or {}, limit=limit, cursor=cursor)))

    def follow_logs(
        self, after: str, filters: Mapping[str, str] | None = None, *, wait: timedelta = LOG_WAIT_DEFAULT
    ) -> dict[str, Any]:
        """What was printed after ``after``, the oldest first; waits for it at most ``wait`` (10 s)."""
        return self._run(self._exchange(calls.follow_logs(self.server, filters or {}, after=after, wait=wait)))

    def secrets(self, function: str) -> dict[str, Any]:
        """``items`` with names and times; values cannot be read."""
        return self._run(self._exchange(calls.list_secrets(self.server, function)))

    def set_secret(self, function: str, name: str, value: str) -> dict[str, Any]:
        """The function's workers find it in ``os.environ``; those that run are replaced."""
        return self._run(self._exchange(calls.put_secret(self.server, function, name, value)))

    def delete_secret(self, function: str, name: str) -> None:
        self._run(self._exchange(calls.delete_secret(self.server, function, name)))

    def tiers(self) -> dict[str, Any]:
        """What can be bought: ``tiers`` from the lowest up, and ``add_ons``; money in minor units."""
        return self._run(self._exchange(calls.list_tiers(self.server)))

    def subscription(self) -> dict[str, Any]:
        """The tenant's tier: what it allows, includes and costs, and how it stands."""
        return self._run(self._exchange(calls.get_subscription(self.server)))

    def buy_tier(self, tier: str, add_ons: Mapping[str, int] | None = None) -> dict[str, Any]:
        """``{"kind": "checkout", "url": …}``: to be paid there; ``"changed"``: done, the difference is invoiced."""
        return self._run(self._exchange(calls.buy_tier(self.server, tier, add_ons or {})))

    def all_functions(self) -> Iterator[models.Function]:
        """Every function, page by page."""
        return self._all(lambda cursor: self.functions(cursor=cursor))

    def all_versions(self, name: str) -> Iterator[models.Version]:
        return self._all(lambda cursor: self.versions(name, cursor=cursor))

    def all_keys(self) -> Iterator[models.Key]:
        return self._all(lambda cursor: self.keys(cursor=cursor))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _all[T](page: Callable[[str | None], models.Page[T]]) -> Iterator[T]:
        cursor: str | None = None
        while True:
            current = page(cursor)
            yield from current.items
            cursor = current.next_cursor
            if not cursor:
                return

    def _run[T](self, steps: Steps[T], progress: Progress | None = None) -> T:
        """Performs the steps of one operation."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step, progress)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            steps.close()

    def _perform(self, step: Step, progress: Progress | None) -> Any:
        match step:
            case Send(call=call) if call.file is not None:
                with call.file.open("rb") as file:
                    return _answer(self._http.request(**self._arguments(call, _counted(file, progress))))
            case Send(call=call):
                return _answer(self._http.request(**self._arguments(call, None)))
            case Pause(seconds=seconds):
                return time.sleep(seconds)
            case Work(run=run):
                return run()


class AsyncClient(_Operations):
    """``Client`` for asyncio: the same operations, each to be awaited."""

    def _open(self) -> None:
        self._http = httpx.AsyncClient(follow_redirects=False, mounts=dict.fromkeys(NEVER_PROXIED))

    async def deploy(
        self,
        path: str | PathLike[str],
        *,
        name: str | None = None,
        handler: str | None = None,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - the function's limit, not a wait of this coroutine
        concurrency: int | None = None,
        workers_min: int | None = None,
        state: str | None = None,
        public: bool | None = None,
        alias: str | None = None,
        cpu: timedelta | None = None,
        memory: int | None = None,
        tmp: int | None = None,
        output: int | None = None,
        log: int | None = None,
        open_files: int | None = None,
        processes: int | None = None,
        network: bool | None = None,
        ready_timeout: timedelta = READY_TIMEOUT_DEFAULT,
        progress: Progress | None = None,
    ) -> models.Deployment:
        """See ``Client.deploy``; resolving and packing run in a thread."""
        settings = projects.Settings(
            name, handler, timeout, concurrency, workers_min, state, public, alias,
            cpu, memory, tmp, output, log, open_files, processes, network,
        )  # fmt: skip
        return await self._run(self._deploy(path, settings, ready_timeout, progress), progress)

    async def invoke(self, function: str, /, **arguments: Any) -> Any:
        """See ``Client.invoke``."""
        return await self._run(self._invoke(function, arguments))

    async def call(
        self,
        function: str,
        *,
        method: str = "POST",
        path: str = "",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - between bytes, as in Client
    ) -> models.Invocation:
        """See ``Client.call``."""
        return await self._run(
            self._call(
                function,
                method=method,
                path=path,
                params=params,
                headers=headers,
                content=content,
                json=json,
                timeout=timeout,
            )
        )

    async def runtime(self) -> models.Runtime:
        return await self._run(self._exchange(calls.get_runtime(self.server)))

    async def tenant(self) -> models.Tenant:
        return await self._run(self._exchange(calls.get_tenant(self.server)))

    async def functions(
        self, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None
    ) -> models.Page[models.Function]:
        return await self._run(self._exchange(calls.list_functions(self.server, limit=limit, cursor=cursor)))

    async def function(self, name: str) -> models.Function:
        return await self._run(self._exchange(calls.get_function(self.server, name)))

    async def set_public(self, name: str, public: bool) -> models.Function:
        return await self._run(self._exchange(calls.update_function(self.server, name, public=public)))

    async def delete(self, name: str) -> None:
        """See ``Client.delete``."""
        await self._run(self._exchange(calls.delete_function(self.server, name)))

    async def versions(
        self, name: str, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None
    ) -> models.Page[models.Version]:
        return await self._run(self._exchange(calls.list_versions(self.server, name, limit=limit, cursor=cursor)))

    async def version(self, name: str, version: str) -> models.Version:
        return await self._run(self._exchange(calls.get_version(self.server, name, version)))

    async def alias(self, name: str, alias: str, version: str) -> models.Alias:
        """See ``Client.alias``."""
        return await self._run(self._exchange(calls.put_alias(self.server, name, alias, version)))

    async def delete_alias(self, name: str, alias: str) -> None:
        """See ``Client.delete_alias``."""
        await self._run(self._exchange(calls.delete_alias(self.server, name, alias)))

    async def rollback(self, name: str) -> models.Alias:
        """See ``Client.rollback``."""
        return await self._run(self._exchange(calls.rollback(self.server, name)))

    async def keys(self, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None) -> models.Page[models.Key]:
        return await self._run(self._exchange(calls.list_keys(self.server, limit=limit, cursor=cursor)))

    async def create_key(
        self, *, scopes: tuple[Scope, ...], name: str | None = None, expires_at: datetime | None = None
    ) -> models.NewKey:
        expires = _moment(expires_at)
        return await self._run(
            self._exchange(calls.create_key(self.server, name=name, scopes=scopes, expires_at=expires))
        )

    async def delete_key(self, key_id: str) -> None:
        """See ``Client.delete_key``."""
        await self._run(self._exchange(calls.delete_key(self.server, key_id)))

    async def logs(
        self, filters: Mapping[str, str] | None = None, *, limit: int = PAGE_SIZE_DEFAULT, cursor: str | None = None
    ) -> dict[str, Any]:
        """See ``Client.logs``."""
        return await self._run(self._exchange(calls.list_logs(self.server, filters or {}, limit=limit, cursor=cursor)))

    async def follow_logs(
        self, after: str, filters: Mapping[str, str] | None = None, *, wait: timedelta = LOG_WAIT_DEFAULT
    ) -> dict[str, Any]:
        """See ``Client.follow_logs``."""
        return await self._run(self._exchange(calls.follow_logs(self.server, filters or {}, after=after, wait=wait)))

    async def secrets(self, function: str) -> dict[str, Any]:
        """``items`` with names and times; values cannot be read."""
        return await self._run(self._exchange(calls.list_secrets(self.server, function)))

    async def set_secret(self, function: str, name: str, value: str) -> dict[str, Any]:
        """The function's workers find it in ``os.environ``; those that run are replaced."""
        return await self._run(self._exchange(calls.put_secret(self.server, function, name, value)))

    async def delete_secret(self, function: str, name: str) -> None:
        await self._run(self._exchange(calls.delete_secret(self.server, function, name)))

    async def tiers(self) -> dict[str, Any]:
        """What can be bought: ``tiers`` from the lowest up, and ``add_ons``; money in minor units."""
        return await self._run(self._exchange(calls.list_tiers(self.server)))

    async def subscription(self) -> dict[str, Any]:
        """The tenant's tier: what it allows, includes and costs, and how it stands."""
        return await self._run(self._exchange(calls.get_subscription(self.server)))

    async def buy_tier(self, tier: str, add_ons: Mapping[str, int] | None = None) -> dict[str, Any]:
        """``{"kind": "checkout", "url": …}``: to be paid there; ``"changed"``: done, the difference is invoiced."""
        return await self._run(self._exchange(calls.buy_tier(self.server, tier, add_ons or {})))

    def all_functions(self) -> AsyncIterator[models.Function]:
        """Every function, page by page."""
        return self._all(lambda cursor: self.functions(cursor=cursor))

    def all_versions(self, name: str) -> AsyncIterator[models.Version]:
        return self._all(lambda cursor: self.versions(name, cursor=cursor))

    def all_keys(self) -> AsyncIterator[models.Key]:
        return self._all(lambda cursor: self.keys(cursor=cursor))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @staticmethod
    async def _all[T](page: Callable[[str | None], Awaitable[models.Page[T]]]) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            current = await page(cursor)
            for item in current.items:
                yield item
            cursor = current.next_cursor
            if not cursor:
                return

    async def _run[T](self, steps: Steps[T], progress: Progress | None = None) -> T:
        """Performs the steps of one operation."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._perform(step, progress)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            steps.close()

    async def _perform(self, step: Step, progress: Progress | None) -> Any:
        match step:
            case Send(call=call) if call.file is not None:
                with await asyncio.to_thread(call.file.open, "rb") as file:
                    return _answer(await self._http.request(**self._arguments(call, _counted(file, progress))))
            case Send(call=call):
                return _answer(await self._http.request(**self._arguments(call, None)))
            case Pause(seconds=seconds):
                return await asyncio.sleep(seconds)
            case Work(run=run):
                return await asyncio.to_thread(run)


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


def _counted(file: IO[bytes], progress: Progress | None) -> Any:
    return file if progress is None else _Counted(file, progress)


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, content=response.content)


def _moment(when: datetime | None) -> str | None:
    if when is None:
        return None
    if when.tzinfo is None:
        raise ConfigurationError(f"expires_at is {when}, which has no time zone", hint="datetime.now(UTC) + …")
    return when.isoformat()


def _version() -> str:
    from tailcut import __version__

    return __version__
