"""Rules about Python: who reads the environment, which tests are skipped, which cannot fail, units of settings."""

import ast
import re
from collections.abc import Iterator

from tests.lint.repository import EXCEPTIONS_PATH, Finding, Repository, rule

OURS = ("gateway/", "control_plane/", "sdk/tailcut/")
SETTINGS_NAMES = ("settings.py", "_settings.py", "_profile.py")
"""``_profile.py`` holds the SDK's: what the environment says, then what `tailcut login` wrote."""
SKIPS = re.compile(
    r"pytest\.mark\.(?:skip|skipif|xfail)\b|pytest\.(?:skip|xfail|importorskip)\(|unittest\.skip|SkipZig" + "Test"
)
CHECKING_CALL = re.compile(r"assert|expect|check|raises|verify|must|fail|wait|warns|until", re.IGNORECASE)
UNIT = re.compile(r"_(?:s|ms|us|ns|bytes|mib|max|min|count|port|fd|pid|uid|percent|days|backlog)$")


@rule
def environment(repository: Repository) -> Iterator[Finding]:
    """Only settings read os.environ; setting it (a worker's for its function) is not reading."""
    for path, text in repository.matching(".py", under=OURS):
        if path.endswith(SETTINGS_NAMES):
            continue
        tree = parsed(text)
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv" | "environb"):
                    if not writes(node, parents):
                        fix = "add a field to the package's settings.py and take it from there"
                        yield Finding(path, node.lineno, f"reads the environment: {fix}")
                case ast.ImportFrom(module="os", names=names) if {"environ", "getenv"} & {n.name for n in names}:
                    yield Finding(path, node.lineno, "imports the environment: take it from the package's settings.py")


def writes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents.get(node)
    match parent:
        case ast.Subscript(ctx=ast.Store() | ast.Del()):
            return True
        case ast.Attribute(attr="update" | "clear" | "setdefault"):
            return True
    return False


@rule
def skips(repository: Repository) -> Iterator[Finding]:
    """One finding per file that skips anything: exceptions.toml is the one place that lists them, with the reason."""
    for path, text in repository.matching(".py", ".zig", under=("tests/", "zigcore/", "sdk/")):
        if match := SKIPS.search(text):
            number = text.count("\n", 0, match.start()) + 1
            fix = f"make it run everywhere, or list the file with its reason in {EXCEPTIONS_PATH}"
            yield Finding(path, number, f"skips a test ({match.group().rstrip('(')}): {fix}")


@rule
def tests_can_fail(repository: Repository) -> Iterator[Finding]:
    for path, text in repository.matching(".py", under="tests/"):
        if not re.search(r"(^|/)test_\w+\.py$", path):
            continue
        for node in ast.walk(parsed(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if not any(checks(inner) for inner in ast.walk(node)):
                fix = "assert what must be seen; a test that cannot fail is a defect"
                yield Finding(path, node.lineno, f"a test that asserts nothing: {fix}")


def checks(node: ast.AST) -> bool:
    match node:
        case ast.Assert() | ast.Raise():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return bool(CHECKING_CALL.search(name))
    return False


@rule
def settings_units(repository: Repository) -> Iterator[Finding]:
    """A number in a settings class says its unit."""
    for path, text in repository.matching("settings.py", under=OURS):
        for owner in ast.walk(parsed(text)):
            if not isinstance(owner, ast.ClassDef):
                continue
            for node in owner.body:
                match node:
                    case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="int" | "float")):
                        if not UNIT.search(name):
                            fix = (
                                "end its name in _s, _ms, _bytes, _max, _count, … (UNIT in tests/lint/rules_python.py)"
                            )
                            yield Finding(path, node.lineno, f"the number {name} has no unit: {fix}")


def parsed(text: str) -> ast.Module:
    """The tree, or an empty one: what does not parse is the linter's matter."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])
