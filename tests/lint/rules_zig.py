"""Rules about Zig: which folder may import which, where system calls are made, units of the bounds."""

import posixpath
import re
from collections.abc import Iterator

from tests.lint.repository import Finding, Repository, rule

SOURCE = "zigcore/src/"
# Folder → the folders it may import, besides itself. The same in words: docs/ARCHITECTURE.md, "Who may import whom".
MAY_IMPORT: dict[str, frozenset[str]] = {
    "io": frozenset(),
    "meter": frozenset({"io"}),
    "http": frozenset({"io", "meter"}),
    "route": frozenset({"io", "meter"}),
    "admit": frozenset({"io", "meter", "route"}),
    "runtime": frozenset({"io"}),
    "jail": frozenset({"io"}),
    "pool": frozenset({"io", "meter", "http", "route", "admit"}),
    # A file and not a folder: it puts the parts of one reactor together.
    "reactor.zig": frozenset({"io", "meter", "http", "route", "admit", "pool"}),
    "abi": frozenset({"io", "meter", "http", "route", "admit", "pool", "reactor.zig", "runtime", "jail"}),
}
# Files that every folder may import: the bounds and the wire format, which import nothing but std and each other.
SHARED = frozenset({"limits.zig", "pool/frame.zig"})
SYSTEM_CALL_FILES = ("io/",)
IMPORT = re.compile(r'@import\("([^"]+\.zig)"\)')
# Not calls of the kernel: reading an error number, mutexes.
SYSTEM_CALL = re.compile(r"\b(?:std\.os\.linux|std\.posix|std\.c|linux|posix)\.(?!errno\b|pthread_)([a-z][a-z0-9_]*)\(")
BOUND = re.compile(r"^pub const (\w+)(?:: \w+)? = ", re.MULTILINE)
BOUND_SUFFIXES = ("_max", "_min", "_bytes", "_ns", "_count", "_entries")
BOUND_UNITS = frozenset({"kib", "mib"})


@rule
def zig_imports(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.matching(".zig", under=SOURCE):
        name = path.removeprefix(SOURCE)
        if is_root(name):
            continue
        folder = name.split("/")[0]
        for number, line in enumerate(text.splitlines(), 1):
            for imported in IMPORT.findall(line):
                target = posixpath.normpath(posixpath.join(posixpath.dirname(name), imported))
                yield from judged(path, number, name, folder, target)


def is_root(name: str) -> bool:
    """A file in src/ itself: the root of something that is built (the library, the tests, a fuzzer, a measurement)."""
    return "/" not in name and name not in SHARED and name not in MAY_IMPORT


def judged(path: str, number: int, name: str, folder: str, target: str) -> Iterator[Finding]:
    target_folder = target.split("/")[0]
    if target in SHARED:
        return
    if is_root(target):
        yield Finding(path, number, f"imports {target}, the root of a build: move what is needed into a folder")
    elif name in SHARED:
        yield Finding(
            path, number, f"imports {target}: what every folder imports may import only std and {sorted(SHARED)}"
        )
    elif folder not in MAY_IMPORT:
        yield Finding(
            path, number, f"the folder {folder!r} has no rule: add it to MAY_IMPORT in tests/lint/rules_zig.py"
        )
    elif target_folder != folder and target_folder not in MAY_IMPORT[folder]:
        allowed = ", ".join(sorted(MAY_IMPORT[folder])) or "none"
        fix = "hand the value in as an argument, or move the file"
        yield Finding(path, number, f"{folder} imports {target}, but may import {allowed}: {fix}")


@rule
def system_calls(repository: Repository) -> Iterator[Finding]:
    """io/ alone talks to the kernel (tests may: they make the other side's sockets)."""
    for path, text in repository.matching(".zig", under=SOURCE):
        if path.removeprefix(SOURCE).startswith(SYSTEM_CALL_FILES):
            continue
        for number, line in code_lines(text):
            if match := SYSTEM_CALL.search(line):
                fix = "add a function with its errors to io/sys.zig and call that"
                yield Finding(path, number, f"makes the system call {match.group(1)}: {fix}")


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and without `test` blocks (zig fmt puts their ends into the first column)."""
    inside_test = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"test\b.*\{$", line):
            inside_test = True
        elif inside_test and line == "}":
            inside_test = False
        elif not inside_test:
            yield number, line.split("//")[0]


@rule
def bounds_have_units(repository: Repository) -> Iterator[Finding]:
    text = repository.files.get(SOURCE + "limits.zig", "")
    for match in BOUND.finditer(text):
        name = match.group(1)
        if name not in BOUND_UNITS and not name.endswith(BOUND_SUFFIXES):
            number = text.count("\n", 0, match.start()) + 1
            fix = f"end its name in one of {' '.join(BOUND_SUFFIXES)}"
            yield Finding(SOURCE + "limits.zig", number, f"the bound {name} has no unit: {fix}")
