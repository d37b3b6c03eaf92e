"""``tailcut deploy``: packs, uploads and starts a function; prints its URL and a line to call it with."""

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tailcut import _models as models
from tailcut import _project as projects
from tailcut._cli import options
from tailcut._cli.console import clean, out, print_json
from tailcut._cli.progress import Display
from tailcut._profile import KEY_VARIABLE, Credentials


def deploy(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A .py file or a folder.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The function's name; else that of the file or folder.")] = None,
    handler: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="What to call; else it is guessed if only one fits.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Wall-clock limit: 500ms, 3s, 2m.")] = None,
    cpu: Annotated[str | None, typer.Option(metavar="TIME", help="CPU time of one invocation: 200ms.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of a worker: 128MiB.")] = None,
    tmp: Annotated[str | None, typer.Option(metavar="SIZE", help="Size of /tmp: 64MiB.")] = None,
    output: Annotated[str | None, typer.Option(metavar="SIZE", help="Largest answer: 1MiB.")] = None,
    log: Annotated[str | None, typer.Option(metavar="SIZE", help="Log output of one invocation: 64KiB.")] = None,
    open_files: Annotated[int | None, typer.Option(metavar="N", help="Descriptors of a worker.")] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="Threads and processes of a worker.")] = None,
    network: Annotated[
        bool | None, typer.Option("--network/--no-network", help="Whether it may connect to public addresses.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Invocations that may run at once per CPU.")
    ] = None,
    workers_min: Annotated[int | None, typer.Option(metavar="N", help="Workers to keep warm per CPU.")] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="fresh|warm|forked",
            help="What a call finds in memory: what the import left (fresh; forked: a process each), or earlier calls.",
        ),
    ] = None,
    public: Annotated[
        bool | None, typer.Option("--public/--private", help="Whether it can be called without a key.")
    ] = None,
    alias: Annotated[str | None, typer.Option(metavar="NAME", help="The alias to move; else live.")] = None,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long to wait until a worker of it is ready.")] = "60s",
    server: options.Server = None,
    key: options.Key = None,
    json_: options.Json = False,
) -> None:
    """Deploy a function: resolve, install, pack, upload, start.

    The options can also stand in tailcut.toml, or in \\[tool.tailcut] of pyproject.toml.
    """
    sizes = {"memory": memory, "tmp": tmp, "output": output, "log": log}
    limits: dict[str, Any] = {
        "timeout": None if timeout is None else projects.parse_duration(timeout),
        "cpu": None if cpu is None else projects.parse_duration(cpu, "cpu"),
        "open_files": open_files,
        "processes": processes,
        "network": network,
        **{name: None if text is None else projects.parse_size(text, name) for name, text in sizes.items()},
    }
    ready_timeout = projects.parse_duration(wait, "--wait")
    credentials = options.find(server, key)
    with options.connect_with(credentials) as client, Display() as display:
        deployment = client.deploy(
            path,
            name=name,
            handler=handler,
            **limits,
            concurrency=concurrency,
            workers_min=workers_min,
            state=state,
            public=public,
            alias=alias,
            ready_timeout=ready_timeout,
            progress=display,
        )
    curl = _curl(deployment, path, credentials)
    if json_:
        print_json(_as_json(deployment))
        return
    seconds = deployment.duration.total_seconds()
    summary = f"{deployment.function}@{deployment.alias} is {deployment.version} ({seconds:.1f} s)"
    out.print(Text(clean(summary), style="bold green"))
    out.print(Text(clean(deployment.url)))
    out.print(Text(clean(curl)))


def _as_json(deployment: models.Deployment) -> dict[str, Any]:
    return {
        "function": deployment.function,
        "version": deployment.version,
        "alias": deployment.alias,
        "url": deployment.url,
        "sha256": deployment.sha256,
        "status": deployment.status,
        "style": deployment.style,
        "state": deployment.state,
        "state_reason": deployment.state_reason,
        "handler": deployment.handler,
        "public": deployment.public,
        "bundle_bytes": deployment.bundle_bytes,
        "files": deployment.files,
        "lock": list(deployment.lock),
        "duration_ms": round(deployment.duration / timedelta(milliseconds=1)),
    }


def _curl(deployment: models.Deployment, path: Path, credentials: Credentials) -> str:
    """A line to paste into this shell; it does not show the key."""
    parts = ["curl"]
    if not deployment.public:
        stored = credentials.origin not in ("--key", KEY_VARIABLE)
        source = "$(tailcut login --show-key)" if stored else f"${KEY_VARIABLE}"
        parts += ["-H", f'"Authorization: Bearer {source}"']
    arguments = {}
    if deployment.style in (None, "typed"):
        settings = projects.Settings(name=deployment.function, handler=deployment.handler)
        project = projects.Project(path.resolve(), deployment.function, deployment.handler, settings)
        arguments = projects.example_arguments(project)
    if arguments:
        parts += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(arguments))]
    return " ".join([*parts, shlex.quote(deployment.url)])
