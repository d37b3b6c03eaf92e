"""Reading answers: JSON documents, problem documents (RFC 9457) and what a function sent.

Called by _calls, _transport. Always holds: whatever the other side sends becomes a value or a ``TailcutError``;
an answer of something that is not Tailcut is said to be that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from json import JSONDecodeError, loads
from typing import Any

from tailcut._errors import AnswerInvalid, ApiError, api_error
from tailcut._models import Invocation

EXCERPT_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over the wire, apart from the HTTP library that carried it."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


def document(answer: Answer, *, method: str, url: str) -> Mapping[str, Any]:
    """The JSON object that every management operation answers with."""
    parsed = _json_object(answer)
    if parsed is None:
        raise _not_tailcut(answer, method, url)
    return parsed


def refusal(answer: Answer, *, method: str, url: str, by_function: bool) -> Exception:
    """The error for a status of 300 and above."""
    parsed = _json_object(answer)
    if parsed is not None and (_is_problem(answer) or by_function):
        return _problem_error(answer, parsed, method, url)
    if by_function:
        return _problem_error(answer, {"detail": _excerpt(answer)}, method, url)
    return _not_tailcut(answer, method, url)


def value(invocation: Invocation) -> Any:
    """JSON becomes its value, text a string, anything else bytes, nothing ``None``."""
    if not invocation.content:
        return None
    kind = invocation.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return invocation.json()
    return invocation.text if kind.startswith("text/") else invocation.content


def invocation(answer: Answer) -> Invocation:
    headers = answer.headers
    return Invocation(
        status=answer.status,
        headers=headers,
        content=answer.content,
        request_id=headers.get("tailcut-request-id"),
        version=headers.get("tailcut-version"),
        start=headers.get("tailcut-start"),
        cpu=_microseconds(headers.get("tailcut-cpu-us")),
        queue=_microseconds(headers.get("tailcut-queue-us")),
        memory_bytes=_count(headers.get("tailcut-memory-bytes")),
    )


def not_executed_retry_after_s(answer: Answer, *, by_function: bool) -> float | None:
    """Seconds to wait if the answer guarantees that nothing was executed, else None.

    429 and 503 with Retry-After are such a guarantee, if Tailcut itself said them: a function may answer 503 after
    having done all its work.
    """
    if answer.status not in (429, 503):
        return None
    if by_function and not _is_refusal_of_gateway(answer):
        return None
    return retry_after_s(answer)


def retry_after_s(answer: Answer) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _is_refusal_of_gateway(answer: Answer) -> bool:
    parsed = _json_object(answer) if _is_problem(answer) else None
    return parsed is not None and parsed.get("component") == "gateway"


def _problem_error(answer: Answer, problem: Mapping[str, Any], method: str, url: str) -> ApiError:
    if "request_id" not in problem and "tailcut-request-id" in answer.headers:
        problem = {**problem, "request_id": answer.headers["tailcut-request-id"]}
    return api_error(status=answer.status, problem=problem, method=method, url=url, retry_after_s=retry_after_s(answer))


def _is_problem(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/problem+json"


def _json_object(answer: Answer) -> Mapping[str, Any] | None:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        parsed = loads(answer.content)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _not_tailcut(answer: Answer, method: str, url: str) -> AnswerInvalid:
    kind = answer.headers.get("content-type", "no content type")
    return AnswerInvalid(
        f"{method} {url} answered {answer.status} ({kind}) with something that is no Tailcut answer: "
        f"{_excerpt(answer) or 'an empty body'}",
        hint="is the server's address that of the control plane? It listens on port 8000 unless told otherwise; "
        "8080 is the gateway",
    )


def _excerpt(answer: Answer) -> str:
    text = " ".join(answer.content[: 4 * EXCERPT_CHARACTERS_MAX].decode("utf-8", "replace").split())
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return printable if len(printable) <= EXCERPT_CHARACTERS_MAX else printable[:EXCERPT_CHARACTERS_MAX] + "…"


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _microseconds(text: str | None) -> timedelta | None:
    count = _count(text)
    return None if count is None or count > 10**15 else timedelta(microseconds=count)
