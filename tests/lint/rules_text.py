"""Rules about every file: its size, its header, the words in it, and what must never be in a commit."""

import ast
import re
from collections.abc import Iterator

from tests.lint.repository import Finding, Repository, rule

LINES_WARN = 500
LINES_MAX = 800
# Written in pieces, so that this file does not break its own rules.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.:/-])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me/\w+|Us" + r"ers/\w+)/")
REGISTRIES = re.compile(r"\b(?:py" + r"pi\.org|python" + r"hosted\.org|npm" + r"js\.(?:org|com)|crates" + r"\.io)\b")
INDEX_OPTIONS = re.compile(r"^\s*(?:-i|--(?:extra-)?index-url|--find-links|-f)[ =]", re.MULTILINE)
FORBIDDEN = {
    "job": "invocation",
    "task": "invocation, or say what it does",
    "container": "worker or jail",
    "plan": "tier",
    "account": "tenant",
}
# Not what the kernel calls its own.
ROUTE = re.compile(r"(?!/(?:proc|sys|dev)/)(?:/[\w{}:.-]+)+/?")
OTHERS_WORD = re.compile(r"^\s*(?:import|from) (?:asyncio|anyio|rich\.progress)", re.MULTILINE)
ZIG_NAME = re.compile(r"^\s*(?:pub )?(?:export )?(?:inline )?(?:fn|const|var) (\w+)|^\s+(\w+): [\w\[?*.]", re.MULTILINE)


@rule
def file_size(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.matching(".py", ".zig"):
        lines = text.count("\n")
        if lines > LINES_WARN:
            message = f"has {lines} lines (at most {LINES_MAX}, aim under {LINES_WARN}): split it, one idea per file"
            yield Finding(path, lines, message, warning=lines <= LINES_MAX)


@rule
def header(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.matching(".py"):
        if text.strip() and not module_docstring(text):
            yield Finding(path, 1, "has no module docstring: say what this is, why, who calls it, what always holds")
    for path, text in repository.matching(".zig"):
        if not text.startswith("//!"):
            yield Finding(path, 1, "does not begin with //!: say what this is, why, who calls it, what always holds")


def module_docstring(text: str) -> str | None:
    try:
        return ast.get_docstring(ast.parse(text))
    except SyntaxError:
        # A broken function is a test's input, and the linter's and the compiler's matter.
        return "unreadable"


@rule
def unfinished(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := UNFINISHED.search(line):
                yield Finding(path, number, f"says {match.group()}: do it, or write an issue and say what holds today")
            if path.endswith(".py") and "raise NotImplemented" + "Error" in line:
                yield Finding(path, number, "is a stub: write it, or make the method abstract (abc)")


@rule
def machine_paths(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := MACHINE_PATHS.search(line):
                yield Finding(path, number, f"names a path of one machine ({match.group()}…): make it relative")


@rule
def registries(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := REGISTRIES.search(line):
                fix = "leave the choice of a registry to the user's own configuration"
                yield Finding(path, number, f"names the registry {match.group()}: {fix}")
    for path, text in repository.matching(".lock", "requirements.txt"):
        for match in INDEX_OPTIONS.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            yield Finding(path, number, "sets an index: remove the option, `make lock` writes none")


@rule
def words(repository: Repository) -> Iterator[Finding]:
    """Names of ours: of files, of what Python and Zig define, of routes and SQL tables. Prose is not looked at."""
    for path, text in repository.matching(".py", ".zig"):
        for part in path.rsplit(".", 1)[0].split("/"):
            yield from judged(path, 1, part, allowed=frozenset())
        if path.endswith(".zig"):
            for match in ZIG_NAME.finditer(text):
                number = text.count("\n", 0, match.start()) + 1
                yield from judged(path, number, match.group(1) or match.group(2), allowed=frozenset())
        else:
            # asyncio calls its own things tasks, and so does rich's progress display: there the word means those.
            allowed = frozenset({"task"}) if OTHERS_WORD.search(text) else frozenset()
            for number, name in python_names(text):
                yield from judged(path, number, name, allowed)


def judged(path: str, line: int, name: str, allowed: frozenset[str]) -> Iterator[Finding]:
    for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name):
        word = part.lower()
        word = word[:-1] if word.endswith("s") and word[:-1] in FORBIDDEN else word
        if word in FORBIDDEN and word not in allowed:
            yield Finding(path, line, f"the name {name!r} says {word!r}: one word per thing, here {FORBIDDEN[word]}")


def python_names(text: str) -> Iterator[tuple[int, str]]:
    """What the module defines, and the strings that name routes and tables."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.Assign(targets=[ast.Name(id="__tablename__")], value=ast.Constant(value=str() as table)):
                yield node.lineno, table
            case ast.Constant(value=str() as route) if ROUTE.fullmatch(route):
                yield node.lineno, route
