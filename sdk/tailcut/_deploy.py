"""A deploy from start to end: resolve, install, pack, upload, wait until a worker of the version is ready.

A generator of steps, performed by both clients (see _transport). Nothing is uploaded before everything that can be
checked here has been. Called by _operations; calls _project, _dependencies, _bundle, _calls.
"""

import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from tailcut import _bundle as bundles
from tailcut import _calls as calls
from tailcut import _dependencies as dependencies
from tailcut import _models as models
from tailcut._errors import AnswerMissing, ConnectionFailed, StartFailed, StartTimeout, TailcutError
from tailcut._project import Project
from tailcut._transport import Pause, Steps, Work, exchange

UPLOAD_TIMEOUT = timedelta(minutes=5)
READY_TIMEOUT_DEFAULT = timedelta(seconds=60)
POLL_S_FIRST = 0.02
POLL_S_MAX = 0.5


class Progress(Protocol):
    """Told what a deploy is doing; steps are ``resolve``, ``install``, ``pack``, ``upload`` and ``start``."""

    def begin(self, step: str, total_bytes: int | None = None) -> None: ...
    def advance(self, step: str, count_bytes: int) -> None: ...
    def end(self, step: str, detail: str) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """Says nothing."""

    def begin(self, step: str, total_bytes: int | None = None) -> None:
        pass

    def advance(self, step: str, count_bytes: int) -> None:
        pass

    def end(self, step: str, detail: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Installed:
    folder: Path | None
    pins: tuple[str, ...]


def deploy(
    project: Project,
    *,
    server: str,
    runtime: models.Runtime,
    retries: int,
    ready_timeout: timedelta,
    progress: Progress,
) -> Steps[models.Deployment]:
    started = time.monotonic()
    installed: _Installed = yield Work(lambda: _install(project, runtime, progress))
    with tempfile.TemporaryDirectory(prefix="tailcut-bundle-") as work:
        path = Path(work) / "bundle.zip"
        bundle: bundles.Bundle = yield Work(lambda: _pack(project, runtime, installed, path, progress))
        progress.begin("upload", bundle.archive_bytes)
        upload = yield from exchange(
            calls.upload_version(
                server,
                project.name,
                bundle=path,
                public=project.settings.public,
                alias=project.settings.alias,
                read_timeout=UPLOAD_TIMEOUT,
            ),
            retries=retries,
        )
        progress.end("upload", f"{upload.version}, sha256 {upload.sha256[:12]}")
    version = yield from _wait(upload, server, runtime, retries, ready_timeout, progress)
    return models.Deployment(
        function=upload.function,
        version=upload.version,
        sha256=upload.sha256,
        alias=upload.alias,
        status=version.status,
        url=upload.url,
        public=upload.public,
        style=version.style,
        handler=project.handler,
        bundle_bytes=bundle.archive_bytes,
        files=bundle.files,
        lock=installed.pins,
        duration=timedelta(seconds=time.monotonic() - started),
        state=version.state,
        state_reason=version.state_reason,
    )


def _install(project: Project, runtime: models.Runtime, progress: Progress) -> _Installed:
    folder = project.folder
    if folder is None:
        if (project.path.parent / "requirements.txt").is_file():
            progress.note(
                f"only {project.path.name} is deployed; to install requirements.txt, deploy the folder it is in"
            )
        return _Installed(None, ())
    wanted = dependencies.find(folder)
    if wanted is None:
        return _Installed(None, ())
    progress.begin("resolve")
    locked = dependencies.lock(wanted, python=runtime.python, platform=runtime.platform)
    origin = f"as in {dependencies.LOCK_NAME}" if locked.reused else f"from {wanted.file.name}"
    progress.end("resolve", f"{_packages(len(locked.pins))} {origin}, Python {runtime.python}, {runtime.platform}")
    if locked.note:
        progress.note(locked.note)
    progress.begin("install")
    installed = dependencies.install(locked, wanted, python=runtime.python, platform=runtime.platform)
    progress.end("install", ", ".join(locked.pins[:6]) + (", …" if len(locked.pins) > 6 else ""))
    return _Installed(installed, locked.pins)


def _pack(
    project: Project, runtime: models.Runtime, installed: _Installed, output: Path, progress: Progress
) -> bundles.Bundle:
    settings = project.settings
    sources = bundles.collect(code=project.path, packages=installed.folder, exclude=settings.exclude)
    progress.begin("pack", sum(source.size_bytes for source in sources))
    bundle = bundles.pack(
        manifest=bundles.Manifest(
            handler=project.handler,
            python=runtime.python,
            limits=_limits(project),
            env=dict(settings.env),
            lock=list(installed.pins),
        ),
        sources=sources,
        output=output,
        on_bytes=lambda count: progress.advance("pack", count),
    )
    progress.end("pack", f"{bundle.files:,} files, {_bytes(bundle.unpacked_bytes)} → {_bytes(bundle.archive_bytes)}")
    return bundle


def _wait(
    upload: models.Upload,
    server: str,
    runtime: models.Runtime,
    retries: int,
    ready_timeout: timedelta,
    progress: Progress,
) -> Steps[models.Version]:
    """Asks what became of the version until a node has said so."""
    progress.begin("start")
    deadline = time.monotonic() + ready_timeout.total_seconds()
    pause_s = POLL_S_FIRST
    while True:
        version = yield from exchange(calls.get_version(server, upload.function, upload.version), retries=retries)
        if version.status == "ready":
            progress.end("start", f"a worker of {version.id} is ready")
            if version.state_reason:
                progress.note(f"each call runs in a forked process: {version.state_reason}")
            return version
        if version.status == "failed":
            raise _start_failed(upload, version)
        if time.monotonic() >= deadline:
            raise (yield from _start_timeout(upload, runtime, ready_timeout))
        yield Pause(min(pause_s, max(0.0, deadline - time.monotonic())))
        pause_s = min(pause_s * 1.5, POLL_S_MAX)


def _start_failed(upload: models.Upload, version: models.Version) -> StartFailed:
    error = version.error or models.StartError("StartFailed", "no reason was given")
    return StartFailed(
        f"{upload.function} {version.id} could not start: {error.type}: {error.message}",
        function=upload.function,
        version=version.id,
        cause=error.type,
        detail=error.message,
        traceback=error.traceback,
    )


def _start_timeout(upload: models.Upload, runtime: models.Runtime, waited: timedelta) -> Steps[StartTimeout]:
    """Which part to look at: the gateway answers or it does not."""
    gateway = runtime.gateway_url
    try:
        status: Any = yield from exchange(calls.probe_gateway(gateway), retries=0)
    except (ConnectionFailed, AnswerMissing):
        hint = f"the gateway at {gateway} does not answer: start it, or look at its log"
    except TailcutError as error:
        hint = f"the gateway at {gateway} does not answer as one: {error}"
    else:
        if status == 200:
            hint = (
                f"the gateway at {gateway} is ready but has not reported this version: look for it in the gateway's "
                "log, and whether it and the control plane reach the same Redis"
            )
        else:
            hint = f"the gateway at {gateway} answers {status} to /-/readyz: its log says what it lacks"
    return StartTimeout(
        f"{upload.function} {upload.version} is stored, but no node said within {waited.total_seconds():g} s "
        "whether a worker of it started",
        function=upload.function,
        version=upload.version,
        hint=hint,
    )


def _limits(project: Project) -> dict[str, int | str]:
    settings = project.settings
    millisecond = timedelta(milliseconds=1)
    asked: dict[str, int | str | None] = {
        "timeout_ms": None if settings.timeout is None else round(settings.timeout / millisecond),
        "cpu_ms": None if settings.cpu is None else round(settings.cpu / millisecond),
        "memory_bytes": settings.memory,
        "tmp_bytes": settings.tmp,
        "output_bytes_max": settings.output,
        "log_bytes_max": settings.log,
        "open_files_max": settings.open_files,
        "processes_max": settings.processes,
        "network": settings.network,
        "concurrency_max": settings.concurrency,
        "workers_min": settings.workers_min,
        "state": settings.state,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
