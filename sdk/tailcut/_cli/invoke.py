"""``tailcut invoke``: one HTTP request to a function, with its arguments or any body."""

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.json import JSON
from rich.text import Text

from tailcut import _models as models
from tailcut import _project as projects
from tailcut._answers import Answer, refusal
from tailcut._cli import options
from tailcut._cli.console import EXIT_FAILED, clean, err, exit_code, note, out, print_error, print_json
from tailcut._errors import ProjectError, TailcutError


def invoke(
    function: options.FunctionName,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=TEXT|NAME:=JSON", help="Arguments of a typed function.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="TEXT|@FILE|-", help="The body; @FILE or - (standard input).")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-X", help="Else POST, or GET where there is no body.")
    ] = None,
    path: Annotated[str, typer.Option(help="What follows the function's name in the URL.")] = "",
    query: Annotated[
        list[str] | None, typer.Option("--query", "-q", metavar="NAME=TEXT", help="Of the URL; several times.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: TEXT'", help="Of the request; several times.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write the answer's body.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="How long to wait for the answer.")] = None,
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Call a function and print its answer.

    tailcut invoke hello name=Ada · tailcut invoke add a:=1 b:=2 · tailcut invoke thumbnail -d @a.jpg -o b.webp
    """
    body, kind = _body(arguments or [], data)
    headers = {"content-type": kind} if kind else {}
    headers |= _pairs(header or [], ":", "--header", "'Name: text'")
    limit = projects.parse_duration(timeout) if timeout is not None else None
    with options.connect(server, key) as client:
        answer = client.call(
            function,
            method=method or ("GET" if body is None else "POST"),
            path=path,
            params=_pairs(query or [], "=", "--query", "name=text"),
            headers=headers,
            content=body,
            timeout=limit,
        )
    failure = _failure(answer, function) if answer.status >= 400 else None
    if failure is not None and not json_:
        raise typer.Exit(print_error(failure, as_json=False))
    if output is not None:
        _save(output, answer)
    if json_:
        print_json(_as_json(answer, is_saved=output is not None))
    elif output is None:
        _show(answer)
    if not json_:
        _show_cost(answer)
    if failure is not None:
        raise typer.Exit(exit_code(failure))


def _body(arguments: list[str], data: str | None) -> tuple[bytes | None, str | None]:
    """The body and its content type."""
    if data is not None:
        if arguments:
            raise ProjectError("both arguments and --data are given; a request has one body")
        return _read_data(data)
    if not arguments:
        return None, None
    return json.dumps(_typed(arguments)).encode(), "application/json"


def _typed(arguments: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not separator or not name:
            raise ProjectError(
                f"the argument is {argument!r}; it is name=text, or name:=JSON for anything but a text",
                hint="for example: name=Ada count:=3 tags:='[\"a\"]'",
            )
        values[name] = _json_value(name, text) if is_json else text
    return values


def _json_value(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ProjectError(f"{name} is {text!r}, which is no JSON: {error}", hint=f"a text is {name}={text}") from None


def _read_data(data: str) -> tuple[bytes, str]:
    if data == "-":
        content = sys.stdin.buffer.read()
    elif data.startswith("@"):
        try:
            content = Path(data[1:]).read_bytes()
        except OSError as error:
            raise ProjectError(f"cannot read {data[1:]}: {error.strerror}") from None
    else:
        content = data.encode()
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return content, "application/octet-stream"
    return content, "application/json"


def _pairs(texts: list[str], separator: str, what: str, shape: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, found, value = text.partition(separator)
        if not found or not name.strip():
            raise ProjectError(f"{what} is {text!r}; it is {shape}")
        pairs[name.strip()] = value.strip() if separator == ":" else value
    return pairs


def _failure(answer: models.Invocation, function: str) -> TailcutError:
    raw = Answer(status=answer.status, headers=answer.headers, content=answer.content)
    error = refusal(raw, method="call", url=function, by_function=True)
    return error if isinstance(error, TailcutError) else TailcutError(str(error))


def _save(output: Path, answer: models.Invocation) -> None:
    try:
        output.write_bytes(answer.content)
    except OSError as error:
        raise ProjectError(f"cannot write {output}: {error.strerror}") from None


def _show(answer: models.Invocation) -> None:
    """The body: laid out on a terminal, byte for byte elsewhere."""
    if not out.is_terminal:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()
        return
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind.endswith("json"):
        try:
            out.print(JSON(answer.content.decode(), ensure_ascii=False))
        except (ValueError, RecursionError):
            out.print(Text(clean(answer.text)))
    elif b"\0" in answer.content:
        err.print(f"[yellow]{len(answer.content):,} bytes of {kind or 'unknown type'}: give --output FILE[/]")
        raise typer.Exit(EXIT_FAILED)
    else:
        out.print(Text(clean(answer.text)))


def _show_cost(answer: models.Invocation) -> None:
    if not err.is_terminal:
        return
    facts: Mapping[str, object] = {
        "start": answer.start,
        "cpu": _milliseconds(answer.cpu),
        "queue": _milliseconds(answer.queue),
        "memory": answer.memory_bytes and f"{answer.memory_bytes / 2**20:.1f} MiB",
        "request": answer.request_id,
    }
    note(f"{answer.status} · " + " · ".join(f"{name} {value}" for name, value in facts.items() if value))


def _milliseconds(time: timedelta | None) -> str | None:
    return None if time is None else f"{time / timedelta(milliseconds=1):.3f} ms"


def _microseconds(time: timedelta | None) -> int | None:
    return None if time is None else time // timedelta(microseconds=1)


def _as_json(answer: models.Invocation, *, is_saved: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": answer.status,
        "headers": dict(answer.headers),
        "request_id": answer.request_id,
        "version": answer.version,
        "start": answer.start,
        "cpu_us": _microseconds(answer.cpu),
        "queue_us": _microseconds(answer.queue),
        "memory_bytes": answer.memory_bytes,
        "body_bytes": len(answer.content),
    }
    if is_saved:
        return document
    try:
        document["body"] = json.loads(answer.content) if answer.content else None
    except (ValueError, RecursionError):
        document["text"] = answer.text
    return document
