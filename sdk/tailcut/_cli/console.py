"""What the commands print: results on standard output, everything else on standard error.

Called by every command. Always holds: colour only on a terminal (rich looks, and honours NO_COLOR); text that comes
from a server or a function is printed without its control characters and never read as markup.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailcut import _errors as errors

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_KEY = 3
EXIT_NOT_FOUND = 4
EXIT_DEPENDENCIES = 5
EXIT_START = 6
EXIT_REFUSED = 7
EXIT_NO_ANSWER = 8

FACT_CHARACTERS_MAX = 120
_COMMON_MEMBERS = ("type", "title", "status", "detail", "request_id", "component", "traceback", "upgrade_url")

_EXIT_CODES: tuple[tuple[type[errors.TailcutError], int], ...] = (
    (errors.DependencyError, EXIT_DEPENDENCIES),
    (errors.ProjectError, EXIT_USAGE),
    (errors.ConfigurationError, EXIT_KEY),
    (errors.StartFailed, EXIT_START),
    (errors.StartTimeout, EXIT_START),
    (errors.ConnectionFailed, EXIT_NO_ANSWER),
    (errors.AnswerMissing, EXIT_NO_ANSWER),
    (errors.AnswerInvalid, EXIT_NO_ANSWER),
    (errors.Unauthorized, EXIT_KEY),
    (errors.Forbidden, EXIT_KEY),
    (errors.NotFound, EXIT_NOT_FOUND),
    (errors.TierLimit, EXIT_REFUSED),
    (errors.QuotaExceeded, EXIT_REFUSED),
    (errors.Overloaded, EXIT_REFUSED),
    (errors.BadRequest, EXIT_USAGE),
    (errors.Conflict, EXIT_USAGE),
    (errors.InvalidArguments, EXIT_USAGE),
)


def print_error(error: errors.TailcutError, *, as_json: bool) -> int:
    """Says what went wrong, for people or as one JSON object; returns the exit code."""
    code = exit_code(error)
    if as_json:
        sys.stderr.write(json.dumps({"error": _as_json(error, code)}) + "\n")
        return code
    for block in (_output(error), _traceback(error)):
        if block:
            err.print(Text(clean(block.rstrip()), style="dim"))
    err.print(Text.assemble(("error: ", "bold red"), clean(str(error))))
    if isinstance(error, errors.ApiError):
        for line in _problem_lines(error):
            err.print(Text(clean(f"  {line}")))
    hint = error.hint or _hint(error)
    if hint:
        err.print(Text.assemble(("  fix: ", "bold"), clean(hint)))
    return code


def exit_code(error: errors.TailcutError) -> int:
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_FAILED)


def print_json(value: Any) -> None:
    """One JSON value on standard output, at once: whoever reads it may wait for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> None:
    """A table on a terminal; tab-separated lines, for ``cut`` and ``awk``, elsewhere."""
    listed = [[clean(cell) for cell in row] for row in rows]
    if not out.is_terminal:
        for row in listed:
            sys.stdout.write("\t".join(cell.replace("\n", " ") for cell in row) + "\n")
        return
    if not listed:
        err.print(Text(nothing, style="dim"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(*[Text(cell) for cell in row])
    out.print(table)


def note(text: str) -> None:
    err.print(Text(clean(text), style="dim"))


def clean(text: str) -> str:
    """Without what a terminal would act on."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def ago(when: datetime | None) -> str:
    """``5 min ago``"""
    if when is None:
        return ""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = max(0, int((datetime.now(UTC) - when).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _output(error: errors.TailcutError) -> str:
    return error.output if isinstance(error, errors.DependencyError) else ""


def _traceback(error: errors.TailcutError) -> str:
    return error.traceback if isinstance(error, errors.StartFailed | errors.ApiError) else ""


def _problem_lines(error: errors.ApiError) -> list[str]:
    """The members of a problem document that are worth a line each."""
    lines = [line for line in _details(error) if line not in str(error)]
    facts = [f"{name} {value}" for name, value in error.problem.items() if _is_fact(name, value)]
    if facts:
        lines.append(", ".join(facts))
    said_by = f"{error.component}, " if error.component else ""
    request = f", request {error.request_id}" if error.request_id else ""
    lines.append(f"({said_by}HTTP {error.status}, {error.method} {error.url}{request})")
    return lines


def _is_fact(name: str, value: object) -> bool:
    """A number, or a word, that this problem has and others have not: ``allowed_ms 200``."""
    return (
        name not in _COMMON_MEMBERS and isinstance(value, int | float | str) and len(str(value)) <= FACT_CHARACTERS_MAX
    )


def _details(error: errors.ApiError) -> list[str]:
    """The bad arguments of a 422, one line each."""
    for member in ("errors", "arguments", "invalid"):
        listed = error.problem.get(member)
        if isinstance(listed, list):
            return [_detail(entry) for entry in listed[:20]]
    return []


def _detail(entry: object) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    where = (
        entry.get("field")
        or entry.get("name")
        or entry.get("pointer")
        or entry.get("loc")
        or entry.get("argument")
        or ""
    )
    what = entry.get("message") or entry.get("msg") or entry.get("detail") or ""
    return f"{'.'.join(map(str, where)) if isinstance(where, list) else where}: {what}"


def _hint(error: errors.TailcutError) -> str | None:
    match error:
        case errors.Unauthorized():
            return "the key is unknown, revoked or expired: `tailcut login` stores another"
        case errors.Forbidden():
            return "the key lacks the scope; `tailcut keys` lists what each key may do"
        case errors.TierLimit(next_tier=str(tier), upgrade_url=str(url)) if url:
            return f"the tier {tier} allows more: {url}"
        case errors.TierLimit(next_tier=str(tier)):
            return f"the tier {tier} allows more"
        case errors.FunctionLimitExceeded(limit="wall-clock" | "cpu" | "memory" | "output" as limit):
            option = {"wall-clock": "timeout"}.get(limit, limit)
            return f"deploy with a larger --{option}, as far as the tier allows"
        case errors.TierLimit(problem={"upgrade_url": str(url)}):
            return f"a higher tier: {url}"
        case errors.QuotaExceeded(retry_after_s=float(seconds)) | errors.Overloaded(retry_after_s=float(seconds)):
            return f"not executed; try again in {seconds:g} s"
        case _:
            return None


def _as_json(error: errors.TailcutError, code: int) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": type(error).__name__, "message": str(error), "exit_code": code}
    hint = error.hint or _hint(error)
    if hint:
        document["fix"] = hint
    match error:
        case errors.ApiError():
            document["problem"] = {**error.problem, "status": error.status}
        case errors.StartFailed():
            document |= {"function": error.function, "version": error.version, "traceback": error.traceback}
        case errors.StartTimeout():
            document |= {"function": error.function, "version": error.version}
        case errors.DependencyError():
            document["output"] = error.output
        case _:
            pass
    return document
