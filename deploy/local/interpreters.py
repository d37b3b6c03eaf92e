"""Finds the Python that the environment is made of: the newest CPython >= 3.12 that really works here.

Why a search: a `python3.13` on PATH may be a shim that exists and fails, a pre-release, a free-threaded build or one
built without ssl. So every candidate is run, under a time-out, and says what it is; what it says decides.
Called by setup.py, under whatever Python 3 (>= 3.6) the machine has: standard library only, old syntax only.
Always holds: a candidate that fails, hangs or lies costs its time-out and a line of output, never the search.
"""

import glob
import json
import os
import signal
import subprocess
from typing import Any, Dict, NamedTuple

Facts = Dict[str, Any]

VERSION_MIN = (3, 12)
VERSION_PREFERRED = (3, 13)
"""Immortal objects make fresh state cheap (docs/ARCHITECTURE.md, runtime), and its wheels are all there."""
PROBE_TIMEOUT_S = 10.0
MODULES_NEEDED = ("ssl", "sqlite3", "zlib", "ctypes", "hashlib", "lzma")

# Runs inside the candidate, which may be any Python from 2.7 on: old syntax.
PROBE = """
import json, platform, sys
try:
    import sysconfig
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
except ImportError:
    free_threaded = False
missing = []
for name in %r + ("venv", "ensurepip"):
    try:
        __import__(name)
    except Exception:
        missing.append(name)
print("tailcut-probe " + json.dumps({
    "implementation": platform.python_implementation(),
    "version": list(sys.version_info[:3]),
    "level": sys.version_info[3],
    "free_threaded": free_threaded,
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "missing": missing,
}))
""" % (MODULES_NEEDED,)


class Interpreter(NamedTuple):
    """One candidate that answered the probe."""

    path: str
    version: "tuple[int, ...]"
    has_venv: bool

    def label(self) -> str:
        return "CPython %s at %s" % (".".join(map(str, self.version)), self.path)


class Search(NamedTuple):
    """What was found (best first) and why the rest was not taken."""

    usable: "list[Interpreter]"
    rejected: "list[tuple[str, str]]"


def search(candidates: "list[str]", timeout_s: float = PROBE_TIMEOUT_S) -> Search:
    usable = []  # type: list[Interpreter]
    rejected = []  # type: list[tuple[str, str]]
    seen = set()  # type: set[str]
    for path in candidates:
        facts, reason = probe(path, timeout_s)
        if facts is not None:
            reason = refusal(facts)
        if facts is None or reason:
            rejected.append((path, reason))
            continue
        base = os.path.realpath(facts["executable"])
        if base in seen:
            continue
        seen.add(base)
        has_venv = not {"venv", "ensurepip"} & set(facts["missing"])
        usable.append(Interpreter(facts["executable"], tuple(facts["version"]), has_venv))
    usable.sort(key=lambda i: (i.version[:2] == VERSION_PREFERRED, i.version, i.has_venv), reverse=True)
    return Search(usable, rejected)


def probe(path: str, timeout_s: float) -> "tuple[Facts | None, str]":
    """Runs the candidate; returns what it says of itself, or None and why there is nothing."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        process = subprocess.Popen(
            [path, "-c", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # a shim is a script with children: all of them end with it
        )
    except OSError as error:
        return None, "cannot be run: %s" % error.strerror
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, "gave no answer within %g s" % timeout_s
    for line in out.decode("utf-8", "replace").splitlines():
        if line.startswith("tailcut-probe "):
            try:
                return checked(json.loads(line[len("tailcut-probe ") :])), ""
            except (ValueError, KeyError, TypeError):
                break
    words = [line.strip() for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    return None, "does not run (exit status %d%s)" % (process.returncode, ": " + words[0][:80] if words else "")


def checked(facts: "Facts") -> "Facts":
    """The probe's answer with the types that the rest relies on; raises KeyError, TypeError or ValueError."""
    return {
        "implementation": str(facts["implementation"]),
        "version": [int(n) for n in facts["version"]],
        "level": str(facts["level"]),
        "free_threaded": bool(facts["free_threaded"]),
        "bits": int(facts["bits"]),
        "executable": str(facts["executable"]),
        "missing": [str(name) for name in facts["missing"]],
    }


def refusal(facts: "Facts") -> str:
    """Why this one is not taken; empty when it may be."""
    version = ".".join(map(str, facts["version"]))
    if facts["implementation"] != "CPython":
        return "is %s, not CPython" % facts["implementation"]
    if tuple(facts["version"][:2]) < VERSION_MIN:
        return "is %s, older than %d.%d" % (version, *VERSION_MIN)
    if facts["level"] != "final":
        return "is a pre-release (%s %s)" % (version, facts["level"])
    if facts["free_threaded"]:
        return "is a free-threaded build of %s" % version
    if facts["bits"] != 64:
        return "is a 32-bit build of %s" % version
    missing = [name for name in facts["missing"] if name in MODULES_NEEDED]
    if missing:
        return "is %s, built without %s" % (version, ", ".join(missing))
    return ""


def candidates(environment: "dict[str, str]") -> "list[str]":
    """Every place where a Python may be, in a stable order, each path once; existence is all that is checked here."""
    home = environment.get("HOME", "")
    pyenv = environment.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    managed = environment.get("UV_PYTHON_INSTALL_DIR") or os.path.join(
        environment.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share"), "uv", "python"
    )
    folders = [f for f in environment.get("PATH", "").split(os.pathsep) if f]
    folders += sorted(glob.glob(os.path.join(pyenv, "versions", "*", "bin")))
    folders += ["/usr/local/bin", "/usr/bin"]
    folders += sorted(glob.glob("/opt/python*/bin"))
    folders += sorted(glob.glob(os.path.join(managed, "cpython-*", "bin")))
    found = []  # type: list[str]
    for folder in folders:
        names = [os.path.join(folder, "python3.%d" % minor) for minor in range(30, VERSION_MIN[1] - 1, -1)]
        names += [os.path.join(folder, "python3")]
        for name in names:
            if name not in found and os.access(name, os.X_OK) and os.path.isfile(name):
                found.append(name)
    return found
