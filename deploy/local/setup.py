"""Makes `.venv`: the Python that was found, the locked dependencies, both distributions, libzigcore.so.

Called by the Makefile's targets before anything else, under whatever Python 3 (>= 3.6) the machine has, so: standard
library only, old syntax only. Idempotent: what is done is stamped with a hash of its inputs, and a run that changes
nothing takes a moment. Everything that is installed is named on the terminal before it is.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, Iterator

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import interpreters

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
BOOTSTRAP = os.path.join(ROOT, ".bootstrap")
STAMP = os.path.join(VENV, "tailcut-setup.json")
LOCK = os.path.join(ROOT, "requirements.lock")
PACKAGES = ("gateway", "control_plane", "sdk/tailcut")
BUILD_OUTPUTS = ("gateway/core/libzigcore.so", "gateway/core/_zigcore_abi.py")


Stamp = Dict[str, Any]
"""What has been done, each with the hash of what it was done from."""


class SetupError(Exception):
    """The environment cannot be made; the text says what to do about it."""


def main() -> int:
    os.chdir(ROOT)
    try:
        with only_one():
            make_environment()
    except SetupError as error:
        print("setup: %s" % error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print("setup: `%s` failed with status %s; its output is above" % (shown(error.cmd), error.returncode))
        return 1
    return 0


def make_environment() -> None:
    started = time.monotonic()
    stamp = read_stamp()
    if not environment_works():
        stamp = {}
        create_venv(choose())
    locked = digest([LOCK])
    if stamp.get("locked") != locked:
        say("installing the %d packages of requirements.lock into .venv" % count_locked())
        pip("install", "--require-hashes", "-r", "requirements.lock")
        stamp.update(locked=locked, projects=None)
        write_stamp(stamp)
    # With the folder's own path: an editable install points there, and folders get moved.
    projects = ROOT + digest([os.path.join(ROOT, "pyproject.toml"), os.path.join(ROOT, "sdk", "pyproject.toml")])
    sources = digest(zig_sources())
    if stamp.get("projects") != projects:
        say("installing tailcut-server and tailcut (editable), building libzigcore.so; the first build takes a while")
        pip("install", "--no-build-isolation", "--no-deps", "-e", "sdk", "-e", ".")
        stamp.update(projects=projects, sources=sources)
        write_stamp(stamp)
    elif stamp.get("sources") != sources or not all(os.path.exists(os.path.join(ROOT, o)) for o in BUILD_OUTPUTS):
        say("building libzigcore.so: its sources have changed")
        run([VENV_PYTHON, "zigcore/build_library.py"])
        stamp.update(sources=sources)
        write_stamp(stamp)
    if stamp.get("compiled") != [locked, projects]:
        # Whatever pip does: without bytecode each start of each process compiles a thousand files, seconds in all.
        # Files that are no Python of this version (templates, tests) are left out in silence.
        compiling = [VENV_PYTHON, "-m", "compileall", "-qq", "-j", "0", os.path.join(VENV, "lib"), *PACKAGES]
        subprocess.call(compiling, cwd=ROOT)
        stamp.update(compiled=[locked, projects])
        write_stamp(stamp)
    took_s = time.monotonic() - started
    if took_s > 2:
        say("done in %.0f s" % took_s)


# -- The interpreter ------------------------------------------------------------------------------------------------


def choose() -> "interpreters.Interpreter":
    """The best Python here, else one that uv installs; says which, and why not the others."""
    found = look()
    if not found.usable:
        say("no CPython >= %d.%d works here: asking uv for one" % interpreters.VERSION_MIN)
        subprocess.call([uv(), "python", "install", "%d.%d" % interpreters.VERSION_PREFERRED])
        found = look()
    if not found.usable:
        raise SetupError(
            "found no CPython >= %d.%d that works, and uv could not install one. Install one (packages like python3.13 "
            "and python3.13-venv, or pyenv), or let this machine reach what uv downloads, then run this again"
            % interpreters.VERSION_MIN
        )
    best = found.usable[0]
    for other in found.usable[1:]:
        say("  not %s: %s" % (other.label(), why_not(best, other)))
    say("chose %s: %s" % (best.label(), why(best)))
    return best


def look() -> "interpreters.Search":
    found = interpreters.search(interpreters.candidates(dict(os.environ)))
    for path, reason in found.rejected:
        say("  not %s: %s" % (path, reason))
    return found


def why(best: "interpreters.Interpreter") -> str:
    if best.version[:2] == interpreters.VERSION_PREFERRED:
        return "the newest %d.%d that works, the version that Tailcut prefers" % interpreters.VERSION_PREFERRED
    return "the newest that works (Tailcut prefers %d.%d, which is not here)" % interpreters.VERSION_PREFERRED


def why_not(best: "interpreters.Interpreter", other: "interpreters.Interpreter") -> str:
    if other.version == best.version:
        return "the same version, found later"
    if other.version < best.version:
        return "older"
    return "%d.%d is preferred" % interpreters.VERSION_PREFERRED


# -- The environment ------------------------------------------------------------------------------------------------


def environment_works() -> bool:
    """Whether .venv exists, runs, and is of a Python that we would take."""
    if not os.path.exists(VENV_PYTHON):
        return False
    stamp = read_stamp()
    if stamp.get("python") == python_identity():
        return True
    facts, reason = interpreters.probe(VENV_PYTHON, interpreters.PROBE_TIMEOUT_S)
    reason = reason or interpreters.refusal(facts or {})
    if reason:
        say("making .venv anew: its Python %s" % reason)
        return False
    stamp["python"] = python_identity()
    write_stamp(stamp)
    return True


def python_identity() -> "list[object]":
    """Changes when the file behind .venv/bin/python is another one: then it is asked again what it is."""
    try:
        status = os.stat(VENV_PYTHON)
    except OSError:
        return []
    return [os.path.realpath(VENV_PYTHON), status.st_ino, status.st_mtime_ns]


def create_venv(python: "interpreters.Interpreter") -> None:
    if os.path.isdir(VENV):
        shutil.rmtree(VENV)
    if not python.has_venv:
        python = with_venv(python)
    if python.has_venv:
        say("creating .venv")
        run([python.path, "-m", "venv", VENV])
    else:
        create_venv_without_ensurepip(python)
    write_stamp({"python": python_identity()})


def create_venv_without_ensurepip(python: "interpreters.Interpreter") -> None:
    """Another Python's pip fetches the pip for it: that obeys the user's own configuration, which uv's does not."""
    say("creating .venv; another Python's pip fetches its pip, because %s has no ensurepip" % python.path)
    version = "%d.%d" % tuple(python.version[:2])
    packages = os.path.join(VENV, "lib", "python" + version, "site-packages")
    fetch = [bootstrap_python(), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", packages]
    fetch += ["--only-binary", ":all:", "--python-version", version, "pip"]
    if not quiet([python.path, "-m", "venv", "--without-pip", VENV]) or subprocess.call(fetch) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        run([uv(), "venv", "--seed", "--python", python.path, VENV])


def with_venv(python: "interpreters.Interpreter") -> "interpreters.Interpreter":
    """Debian keeps venv and ensurepip in packages of their own; root can install them."""
    package = "python%d.%d-venv" % tuple(python.version[:2])
    if not python.path.startswith("/usr/bin/"):
        return python
    if not apt_install([package], "%s cannot make environments without it" % python.path):
        return python
    return interpreters.search([python.path]).usable[0]


def apt_install(packages: "list[str]", reason: str) -> bool:
    """Installs Debian packages when we are root, saying so; False when that is not possible here."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say("installing the Debian package %s: %s" % (" ".join(packages), reason))
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    if subprocess.call(command, env=environment) == 0:
        return True
    say("that did not work; once more after `apt-get update`")
    return subprocess.call(["apt-get", "update"]) == 0 and subprocess.call(command, env=environment) == 0


def uv() -> str:
    """A uv: the one on PATH if it runs, else the locked one, installed into .bootstrap with its hashes checked."""
    on_path = shutil.which("uv")
    if on_path and quiet([on_path, "--version"]):
        return on_path
    local = os.path.join(BOOTSTRAP, "venv", "bin", "uv")
    if not os.path.exists(local):
        python = bootstrap_python()
        say("installing uv into .bootstrap")
        requirement = os.path.join(BOOTSTRAP, "uv.lock")
        with open(requirement, "w") as file:
            file.write(locked_lines("uv"))
        run([python, "-m", "pip", "install", "-qq", "--require-hashes", "-r", requirement])
    return local


def bootstrap_python() -> str:
    """A small environment of any Python here that can make one: for what is needed before .venv is there."""
    home = os.path.join(BOOTSTRAP, "venv")
    python = os.path.join(home, "bin", "python")
    candidates = [sys.executable] + [c for c in interpreters.candidates(dict(os.environ)) if c != sys.executable]
    if os.path.exists(python) or any(quiet([candidate, "-m", "venv", "--clear", home]) for candidate in candidates):
        return python
    if apt_install(["python3-venv"], "no Python here can make environments without it"):
        run(["/usr/bin/python3", "-m", "venv", "--clear", home])
        return python
    shutil.rmtree(home, ignore_errors=True)
    raise SetupError(
        "none of the Pythons here can make environments. Install the package python3-venv, or uv, then run this again"
    )


def locked_lines(name: str) -> str:
    """The lines of one package in requirements.lock: its pin and its hashes."""
    lines = []  # type: list[str]
    with open(LOCK) as file:
        for line in file:
            if line.startswith(name + "==") or (lines and line.startswith("    --hash")):
                lines.append(line)
            elif lines:
                break
    if not lines:
        raise SetupError("requirements.lock has no %s: run `make lock`" % name)
    return "".join(lines)


def pip(*arguments: str) -> None:
    run([VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments, "-qq"])


# -- Small things ---------------------------------------------------------------------------------------------------


def zig_sources() -> "list[str]":
    paths = []  # type: list[str]
    for folder, folders, names in os.walk(os.path.join(ROOT, "zigcore")):
        folders[:] = [f for f in folders if f not in (".zig-cache", "zig-out", "__pycache__")]
        paths += [os.path.join(folder, name) for name in names]
    return paths


def digest(paths: "list[str]") -> str:
    total = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            total.update(os.path.relpath(path, ROOT).encode() + b"\0" + hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def count_locked() -> int:
    with open(LOCK) as file:
        return sum(1 for line in file if line[:1].isalnum())


def read_stamp() -> "Stamp":
    try:
        with open(STAMP) as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: "Stamp") -> None:
    with open(STAMP + ".new", "w") as file:
        json.dump(stamp, file)
    os.replace(STAMP + ".new", STAMP)


@contextlib.contextmanager
def only_one() -> "Iterator[None]":
    """Two targets started at once do not build one environment twice."""
    os.makedirs(BOOTSTRAP, exist_ok=True)
    with open(os.path.join(BOOTSTRAP, "setup.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another setup of this folder")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: "list[str]") -> None:
    subprocess.check_call(command, cwd=ROOT)


def quiet(command: "list[str]") -> bool:
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def shown(command: "object") -> str:
    return " ".join(command) if isinstance(command, list) else str(command)


def say(text: str) -> None:
    print("setup: " + text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
