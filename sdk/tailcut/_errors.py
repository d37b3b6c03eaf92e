"""Every error that the SDK raises, as one tree; ``except tailcut.TailcutError`` catches them all.

    TailcutError
    ├── ConfigurationError      no server or key, a profile that cannot be read
    ├── ProjectError            what is to be deployed: path, handler, settings, a link, a size
    ├── DependencyError         the resolver found no answer; ``output`` is its own message
    ├── ConnectionFailed        nothing was sent, so nothing was executed
    ├── AnswerMissing           sent, but no complete answer came: the function may have been executed
    ├── AnswerInvalid           an answer that no Tailcut server gives (a proxy's page, another service)
    ├── StartFailed             the version was stored but its code could not be imported; ``traceback``
    ├── StartTimeout            the version was stored but no node said in time what became of it
    └── ApiError                the server refused or failed; the fields of its RFC 9457 document
        ├── BadRequest (400, 405, 409, 411, 413–415, 431)   ├── Conflict (409)
        ├── Unauthorized (401)      ├── TierLimit (402; never retried)
        ├── Forbidden (403)         ├── NotFound (404)
        ├── InvalidArguments (422)  ├── QuotaExceeded (429; not executed)
        ├── Overloaded (503; not executed when it says Retry-After)
        ├── FunctionError (the handler raised)   ├── FunctionCrashed (the worker died)
        └── FunctionLimitExceeded (CPU, memory, output; ``limit``, ``allowed``, ``used``)
            └── FunctionTimeout (504: wall clock)

Imported by every other module of the SDK; imports none of them.
"""

# ruff: noqa: N818 - they are named for what happened; the root says that they are errors.

from collections.abc import Mapping
from datetime import timedelta
from typing import Any


class TailcutError(Exception):
    """The root. ``str(error)`` is one or a few lines for people."""

    hint: str | None = None
    """What is likely to help, where we know."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(TailcutError):
    """Server, key or profile are missing or unusable."""


class ProjectError(TailcutError):
    """What is to be deployed cannot be: nothing was uploaded."""


class DependencyError(TailcutError):
    """The requirements could not be resolved or installed for the server's Python and platform."""

    def __init__(self, message: str, *, output: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output


class ConnectionFailed(TailcutError):
    """The server could not be reached; nothing was sent."""


class AnswerMissing(TailcutError):
    """The request was sent, at least in part, and no complete answer came in time."""


class AnswerInvalid(TailcutError):
    """The answer is not one that a Tailcut server gives."""


class StartFailed(TailcutError):
    """The version is stored, but a worker of it could not start; the alias serves what it served before."""

    def __init__(
        self,
        message: str,
        *,
        function: str,
        version: str,
        cause: str,
        detail: str,
        traceback: str,
    ) -> None:
        super().__init__(message)
        self.function = function
        self.version = version
        self.cause = cause
        """The exception's type, ``ModuleNotFoundError``."""
        self.detail = detail
        self.traceback = traceback


class StartTimeout(TailcutError):
    """The version is stored, but no node reported in time whether a worker of it started."""

    def __init__(self, message: str, *, function: str, version: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.function = function
        self.version = version


class ApiError(TailcutError):
    """A problem document (RFC 9457) from the gateway, the control plane or, through them, a function."""

    def __init__(
        self,
        *,
        status: int,
        problem: Mapping[str, Any],
        method: str,
        url: str,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.problem = dict(problem)
        """The whole document, with the members this class has no field for."""
        self.type = _text(problem, "type") or "about:blank"
        self.title = _text(problem, "title") or f"HTTP {status}"
        self.detail = _text(problem, "detail") or ""
        self.request_id = _text(problem, "request_id")
        self.component = _text(problem, "component")
        """``gateway``, ``function`` or ``control-plane``: who failed."""
        self.method = method
        self.url = url
        self.retry_after_s = retry_after_s
        self.traceback = _text(problem, "traceback") or ""
        """The handler's, for callers with the tenant's key."""
        super().__init__(_sentence(self.title, self.detail, problem.get("error")))

    @property
    def name(self) -> str:
        """The last part of ``type``: ``quota-exceeded`` of ``https://…/errors/quota-exceeded``."""
        return self.type.rstrip("/").rsplit("/", 1)[-1].rsplit("#", 1)[-1]


class BadRequest(ApiError):
    """The request itself is wrong; the same one will fail again."""


class Unauthorized(ApiError):
    """No key, or one that is unknown, revoked or expired."""


class TierLimit(ApiError):
    """402: quota, spend cap, subscription, or an overrun that a higher tier would have allowed.

    Never retried: only that tier or the next period helps."""

    @property
    def limit(self) -> str | None:
        """What was hit: ``cpu``, ``wall-clock``, ``memory``, ``output``, ``invocations``, …"""
        return _text(self.problem, "limit")

    @property
    def tier(self) -> str | None:
        return _text(self.problem, "tier")

    @property
    def next_tier(self) -> str | None:
        """The tier that would have been enough, where there is one."""
        return _text(self.problem, "next_tier")

    @property
    def upgrade_url(self) -> str | None:
        return _text(self.problem, "upgrade_url")


class Forbidden(ApiError):
    """The key lacks the scope."""


class NotFound(ApiError):
    """No such function, version, alias or key of this tenant."""


class Conflict(ApiError):
    """The state of the resource does not allow it."""


class InvalidArguments(ApiError):
    """422: each bad argument or field is named in ``problem``."""


class QuotaExceeded(ApiError):
    """429: over the rate or concurrency; not executed."""


class Overloaded(ApiError):
    """503: a node, a queue or a dependency is full or away, or the version is not ready."""


class FunctionError(ApiError):
    """The handler raised; ``problem["error"]`` and ``traceback`` say what."""


class FunctionCrashed(ApiError):
    """The worker died: signal, exit, a forbidden system call."""


class FunctionLimitExceeded(ApiError):
    """The function went over a limit; no code of that invocation runs any longer. ``traceback``: where it was."""

    @property
    def limit(self) -> str | None:
        """``cpu``, ``memory``, ``output`` or ``wall-clock``."""
        return _text(self.problem, "limit")

    @property
    def allowed(self) -> timedelta | int | None:
        """Time for CPU and wall clock, bytes for memory and output."""
        return self._figure("allowed")

    @property
    def used(self) -> timedelta | int | None:
        return self._figure("used")

    def _figure(self, name: str) -> timedelta | int | None:
        time, size = self.problem.get(f"{name}_ms"), self.problem.get(f"{name}_bytes")
        if isinstance(time, int):
            return timedelta(milliseconds=time)
        return size if isinstance(size, int) else None


class FunctionTimeout(FunctionLimitExceeded):
    """The wall-clock limit of the function; no code of that invocation runs any longer."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    402: TierLimit,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: InvalidArguments,
    429: QuotaExceeded,
    503: Overloaded,
    504: FunctionTimeout,
}
_BY_NAME: dict[str, type[ApiError]] = {
    "function-error": FunctionError,
    "function-crashed": FunctionCrashed,
    "cpu-limit": FunctionLimitExceeded,
    "memory-limit": FunctionLimitExceeded,
    "output-limit": FunctionLimitExceeded,
    "timeout": FunctionTimeout,
}


def api_error(
    *, status: int, problem: Mapping[str, Any], method: str, url: str, retry_after_s: float | None = None
) -> ApiError:
    """The class for a problem document: by the name in ``type`` first, then by status."""
    error = ApiError(status=status, problem=problem, method=method, url=url, retry_after_s=retry_after_s)
    chosen = _BY_NAME.get(error.name) if status >= 500 else None
    if chosen is None:
        chosen = _BY_STATUS.get(status) or (BadRequest if 400 <= status < 500 else ApiError)
    if chosen is ApiError:
        return error
    return chosen(status=status, problem=problem, method=method, url=url, retry_after_s=retry_after_s)


def _sentence(title: str, detail: str, failure: object) -> str:
    """Title, what it adds in the detail, and the exception that the handler raised."""
    parts = [title]
    if detail.rstrip(".") not in ("", title.rstrip(".")):
        parts.append(detail)
    if isinstance(failure, Mapping):
        parts.append(f"{failure.get('type', 'Error')}: {failure.get('message', '')}")
    return ": ".join(parts)


def _text(problem: Mapping[str, Any], member: str) -> str | None:
    value = problem.get(member)
    return value if isinstance(value, str) else None
