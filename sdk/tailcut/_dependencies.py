"""Resolves, locks and installs what a function depends on, for the server's Python and platform and not this one's.

``requirements.txt``, or else ``[project].dependencies`` of ``pyproject.toml``, is locked by uv with hashes into
``tailcut.lock`` beside it. The lock belongs under version control: as long as the requirements stay the same, every
deploy installs the same files; delete it to take newer releases. Only wheels are installed: building a source
distribution would run its code here and give files for the wrong machine.

The installed folder is kept in the user's cache by the hash of the lock, so the next deploy neither resolves nor
installs. It holds nothing that depends on this machine or the time. Called by _deploy.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tailcut._errors import DependencyError, ProjectError
from tailcut._project import read_toml

LOCK_NAME = "tailcut.lock"
LOCK_FORMAT = 1
INSTALL_FORMAT = 1
"""Changes with what ``_normalise`` does, so that older cached folders are not used."""
UV_TIME_MAX_S = 900
CACHED_FOLDERS_MAX = 16
CACHED_UNUSED_S = 24 * 3600
INCLUDE_DEPTH_MAX = 8

TARGET_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_INDEX_OPTION = re.compile(
    r"^\s*(--(?:extra-)?index-url|-i|--find-links|-f|--no-index)(?:[\s=]+(\S+))?\s*$", re.MULTILINE
)
_INSTALLERS_FILES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the project asks for."""

    file: Path
    """The file that says it, for messages."""
    text: str
    """In the form of a requirements.txt."""
    digest: str
    """SHA-256 of everything that the text refers to, too."""


@dataclass(frozen=True, slots=True)
class Lock:
    body: str
    reused: bool
    note: str | None = None

    @property
    def pins(self) -> tuple[str, ...]:
        return tuple(f"{name}=={version}" for name, version in _PIN.findall(self.body))


def find(folder: Path) -> Requirements | None:
    """The project's requirements; None if it has none."""
    plain, project = folder / "requirements.txt", folder / "pyproject.toml"
    if plain.is_file():
        text = _read(plain)
        return _requirements(plain, text) if _is_more_than_comments(text) else None
    if not project.is_file():
        return None
    table = read_toml(project).get("project", {})
    if "dependencies" in table.get("dynamic", []):
        raise ProjectError(
            f"[project].dependencies of {project} are dynamic: to know them, the project's code would have to run",
            hint="write them into the list, or into a requirements.txt",
        )
    listed = table.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise ProjectError(f"[project].dependencies of {project} is no list of texts")
    return _requirements(project, "".join(f"{entry}\n" for entry in listed)) if listed else None


def lock(requirements: Requirements, *, python: str, platform: str) -> Lock:
    """The lock that lies beside the requirements if it still fits, else a new one, written there."""
    path = requirements.file.parent / LOCK_NAME
    header = _header(requirements, python, platform)
    old = _read(path) if path.is_file() else ""
    if old.startswith(header):
        return Lock(old.removeprefix(header), reused=True)
    body = _resolve(requirements, old, python=python, platform=platform)
    note = _write(path, header + body)
    return Lock(body, reused=False, note=note)


def install(locked: Lock, requirements: Requirements, *, python: str, platform: str) -> Path:
    """The folder with the installed packages, from the cache if it is there."""
    identity = "\n".join([str(INSTALL_FORMAT), python, platform, locked.body])
    cache = _cache_folder()
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()
    if folder.is_dir():
        os.utime(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as work:
        target = Path(work) / "packages"
        lock_file = Path(work) / "requirements.lock"
        lock_file.write_text(locked.body)
        _uv(
            [
                *("pip", "install", "--require-hashes", "--no-deps", "--link-mode", "copy", "--target", str(target)),
                *_target_options(python, platform),
                *_index_options(requirements.text),
                *("-r", str(lock_file)),
            ],
            folder=requirements.file.parent,
            what=f"installing the packages of {requirements.file.name}",
        )
        target.mkdir(exist_ok=True)
        _normalise(target)
        try:
            target.rename(folder)
        except OSError:
            # Another deploy of the same lock was quicker; its folder is as good as ours.
            if not folder.is_dir():
                raise
    _prune(cache)
    return folder


def _resolve(requirements: Requirements, old: str, *, python: str, platform: str) -> str:
    with tempfile.TemporaryDirectory(prefix="tailcut-lock-") as work:
        output = Path(work) / LOCK_NAME
        # uv prefers the versions that its output file names already: a new requirement does not move the others.
        output.write_text(old)
        source = requirements.file
        if source.suffix != ".txt":
            source = Path(work) / "requirements.in"
            source.write_text(requirements.text)
        _uv(
            [
                *("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "-o", str(output)),
                *_target_options(python, platform),
                str(source),
            ],
            folder=requirements.file.parent,
            what=f"resolving {requirements.file} for Python {python} on {platform}",
        )
        # Options that name an index stay in the requirements: they may hold credentials.
        lines = output.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("--", "-i ", "-f ")))


def _target_options(python: str, platform: str) -> list[str]:
    for what, value in (("Python", python), ("platform", platform)):
        if not TARGET_PATTERN.fullmatch(value):
            raise DependencyError(f"the server names {value!r} as its {what}, which is no name of one")
    return [
        *("--python-version", python, "--python-platform", platform, "--only-binary", ":all:"),
        *("--python", sys.executable, "--no-python-downloads", "--color", "never", "--no-progress"),
    ]


def _uv(arguments: list[str], *, folder: Path, what: str) -> None:
    try:
        done = subprocess.run(
            [_uv_path(), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=UV_TIME_MAX_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DependencyError(f"{what} took longer than {UV_TIME_MAX_S} s") from None
    except OSError as error:
        raise DependencyError(f"uv could not be run: {error}", hint="install it: pip install uv") from None
    if done.returncode != 0:
        output = done.stderr.decode("utf-8", "replace").strip()
        raise DependencyError(f"{what} failed", output=output, hint=_hint(output))


def _hint(output: str) -> str | None:
    if "no wheels" in output or "building source distributions is disabled" in output.lower():
        return (
            "functions run on the server's Python and platform, so only packages with a wheel for it (or a pure one) "
            "can be installed; ask for a version that has one"
        )
    if "error sending request" in output or "dns error" in output:
        return "the package index could not be reached"
    return None


def _uv_path() -> str:
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise DependencyError("uv is needed to resolve dependencies and was not found", hint="pip install uv")
    return found


def _normalise(target: Path) -> None:
    """Takes out what depends on the installer, this machine or the time; the rest is the wheels' content."""
    (target / ".lock").unlink(missing_ok=True)
    if (target / "bin").is_dir() and not (target / "bin" / "__init__.py").is_file():
        shutil.rmtree(target / "bin")  # console scripts: they name this machine's Python
    for cache in list(target.rglob("__pycache__")):
        shutil.rmtree(cache)
    for info in target.glob("*.dist-info"):
        for name in _INSTALLERS_FILES:
            (info / name).unlink(missing_ok=True)
        record = info / "RECORD"
        if record.is_file():
            kept = [line for line in record.read_text().splitlines() if _is_present(line, target)]
            record.write_text("".join(f"{line}\n" for line in sorted(kept)))


def _is_present(record_line: str, target: Path) -> bool:
    name = record_line.rsplit(",", 2)[0].strip('"')
    return not name.startswith(("/", "..")) and (target / name).is_file()


def _index_options(text: str) -> list[str]:
    """uv's lock does not say where the packages come from; the requirements may."""
    return [part for match in _INDEX_OPTION.finditer(text) for part in match.groups() if part]


def _requirements(file: Path, text: str) -> Requirements:
    digest = hashlib.sha256(text.encode())
    for included in _included(file, text, INCLUDE_DEPTH_MAX):
        digest.update(b"\0" + included.encode())
    return Requirements(file, text, digest.hexdigest())


def _included(file: Path, text: str, depth: int) -> Iterable[str]:
    """The texts of ``-r other.txt`` and ``-c constraints.txt``, so that a change in them makes a new lock."""
    for match in re.finditer(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", text, re.MULTILINE):
        other = file.parent / match[1]
        if depth and other.is_file():
            content = _read(other)
            yield content
            yield from _included(other, content, depth - 1)


def _header(requirements: Requirements, python: str, platform: str) -> str:
    return (
        "# What `tailcut deploy` installs: written by it, to be kept under version control.\n"
        "# Delete this file to take newer releases.\n"
        f"# format {LOCK_FORMAT}, Python {python}, {platform}\n"
        f"# {requirements.file.name} sha256:{requirements.digest}\n"
    )


def _is_more_than_comments(text: str) -> bool:
    return any(line.split("#", 1)[0].strip() for line in text.splitlines())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {error}") from None


def _write(path: Path, text: str) -> str | None:
    """None, or why the lock could not be kept: that is no reason not to deploy."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        return f"{path} could not be written ({error.strerror}): the next deploy resolves again"
    return None


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tailcut" / "packages"


def _prune(cache: Path) -> None:
    """Keeps the folders used last; one that was used within a day may be in use."""
    folders = sorted((entry for entry in cache.iterdir() if entry.is_dir()), key=lambda entry: -entry.stat().st_mtime)
    for old in folders[CACHED_FOLDERS_MAX:]:
        if time.time() - old.stat().st_mtime > CACHED_UNUSED_S:
            shutil.rmtree(old, ignore_errors=True)
