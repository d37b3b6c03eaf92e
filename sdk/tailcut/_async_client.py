"""``AsyncClient``: the mirror of ``Client`` for asyncio; a test compares them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from tailcut import _calls as calls
from tailcut import _models as models
from tailcut import _project as projects
from tailcut._calls import PAGE_SIZE_DEFAULT, Scope
from tailcut._deploy import READY_TIMEOUT_DEFAULT, Progress
from tailcut._operations import LOG_WAIT_DEFAULT, NEVER_PROXIED, Operations, answer_of, counted, moment
from tailcut._transport import Pause, Send, Step, Steps, Work


class AsyncClient(Operations):
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
        expires = moment(expires_at)
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

    async def usage(self) -> dict[str, Any]:
        """The period that runs now: ``quotas`` with what is used and left, ``spend`` in minor units, ``totals``."""
        return await self._run(self._exchange(calls.get_usage(self.server)))

    async def usage_series(
        self,
        *,
        step: Literal["hour", "day"] = "hour",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> list[dict[str, Any]]:
        """One item for each hour or day (UTC) of the last day, or of ``since`` to ``until``."""
        params = {"step": step, "since": since, "until": until, "function": function}
        return await self._run(self._exchange(calls.list_usage(self.server, "series", params)))

    async def usage_groups(
        self,
        *,
        by: Literal["function", "version"] = "function",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> list[dict[str, Any]]:
        """By function, or by the versions of one, the most called first."""
        params = {"by": by, "since": since, "until": until, "function": function}
        return await self._run(self._exchange(calls.list_usage(self.server, "groups", params)))

    async def usage_csv(
        self,
        *,
        rows: Literal["hours", "invocations"] = "hours",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> str:
        """By version and hour, or single invocations, as CSV with a header."""
        params = {"rows": rows, "since": since, "until": until, "function": function}
        return await self._run(self._exchange(calls.export_usage(self.server, params)))

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
                    return answer_of(await self._http.request(**self._arguments(call, counted(file, progress))))
            case Send(call=call):
                return answer_of(await self._http.request(**self._arguments(call, None)))
            case Pause(seconds=seconds):
                return await asyncio.sleep(seconds)
            case Work(run=run):
                return await asyncio.to_thread(run)
