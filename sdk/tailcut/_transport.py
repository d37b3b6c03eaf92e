"""When to send again, and what each failure is called: a generator that says what to do and does nothing itself.

It yields steps (send this, wait that long, run this blocking work); the synchronous and the asynchronous client
perform them each in their way. So there is one set of rules and both clients obey it. Called by _operations, _deploy.

Sent again is only what was certainly not executed: the connection failed before a byte was sent, or Tailcut said
429 or 503 with Retry-After. A 402 never: it will be a 402 until the month is over or the tier is higher.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx

from tailcut import _answers as answers
from tailcut._answers import Answer
from tailcut._calls import Call
from tailcut._errors import AnswerMissing, ConfigurationError, ConnectionFailed, TailcutError

RETRIES_DEFAULT = 2
RETRY_AFTER_S_MAX = 20.0
"""A server that asks for longer gets no second attempt: the caller learns ``retry_after_s`` at once."""
CONNECT_PAUSE_S = 0.2
CONNECT_PAUSE_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Send:
    """Answered with an ``Answer``, or an ``httpx`` error is thrown in."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Blocking work on this machine: run in place, or in a thread by the asynchronous client."""

    run: Callable[[], Any]


type Step = Send | Pause | Work
type Steps[T] = Generator[Step, Any, T]


def exchange[T](call: Call[T], *, retries: int) -> Steps[T]:
    """Sends ``call`` at most ``1 + retries`` times and parses its answer."""
    for attempt in range(retries + 1):
        is_last = attempt == retries
        try:
            answer: Answer = yield Send(call)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if is_last or _is_hopeless(error):
                raise _not_connected(call, error) from error
            yield Pause(min(CONNECT_PAUSE_S * 2**attempt, CONNECT_PAUSE_S_MAX))
            continue
        except httpx.PoolTimeout as error:
            if is_last:
                raise _not_connected(call, error) from error
            continue
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failure(call, error) from error
        wait_s = answers.not_executed_retry_after_s(answer, by_function=call.by_function)
        if wait_s is None or wait_s > RETRY_AFTER_S_MAX or is_last:
            return call.parse(call, answer)
        yield Pause(wait_s)
    raise AssertionError("the last attempt returns or raises")


def _is_hopeless(error: httpx.HTTPError) -> bool:
    """A certificate that does not verify will not verify in 200 ms either."""
    return "CERTIFICATE" in str(error).upper()


def _not_connected(call: Call[Any], error: httpx.HTTPError) -> ConnectionFailed:
    origin = _origin(call.url)
    return ConnectionFailed(
        f"cannot connect to {origin}: {_reason(error)}",
        hint="is the server running there, and is the address right?"
        if not _is_hopeless(error)
        else "set SSL_CERT_FILE to the certificate of the authority that signed the server's",
    )


def _failure(call: Call[Any], error: Exception) -> TailcutError:
    match error:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return ConfigurationError(
                f"{call.url!r} is no address that can be called: {_reason(error)}",
                hint="a server's address looks like http://127.0.0.1:8000",
            )
        case httpx.TimeoutException():
            return AnswerMissing(
                f"{call.method} {call.url}: no complete answer in time; it may have been executed",
                hint="raise the client's timeout, or look at the server's log",
            )
        case _:
            return AnswerMissing(
                f"{call.method} {call.url}: the connection broke before the answer was complete "
                f"({_reason(error)}); it may have been executed"
            )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _origin(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return url
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii', 'replace')}"
