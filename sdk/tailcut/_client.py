"""``Client``: the operations, performed one after the other. ``_async_client`` is its mirror.

Used by programs (``tailcut.Client``) and by the command line.
"""

import time
from collections.abc import Callable, Iterator, Mapping
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


class Client(Operations):
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
        expires = moment(expires_at)
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

    def usage(self) -> dict[str, Any]:
        """The period that runs now: ``quotas`` with what is used and left, ``spend`` in minor units, ``totals``."""
        return self._run(self._exchange(calls.get_usage(self.server)))

    def usage_series(
        self,
        *,
        step: Literal["hour", "day"] = "hour",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> list[dict[str, Any]]:
        """One item for each hour or day (UTC) of the last day, or of ``since`` to ``until``."""
        params = {"step": step, "since": since, "until": until, "function": function}
        return self._run(self._exchange(calls.list_usage(self.server, "series", params)))

    def usage_groups(
        self,
        *,
        by: Literal["function", "version"] = "function",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> list[dict[str, Any]]:
        """By function, or by the versions of one, the most called first."""
        params = {"by": by, "since": since, "until": until, "function": function}
        return self._run(self._exchange(calls.list_usage(self.server, "groups", params)))

    def usage_csv(
        self,
        *,
        rows: Literal["hours", "invocations"] = "hours",
        since: datetime | None = None,
        until: datetime | None = None,
        function: str | None = None,
    ) -> str:
        """By version and hour, or single invocations, as CSV with a header."""
        params = {"rows": rows, "since": since, "until": until, "function": function}
        return self._run(self._exchange(calls.export_usage(self.server, params)))

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
                    return answer_of(self._http.request(**self._arguments(call, counted(file, progress))))
            case Send(call=call):
                return answer_of(self._http.request(**self._arguments(call, None)))
            case Pause(seconds=seconds):
                return time.sleep(seconds)
            case Work(run=run):
                return run()
