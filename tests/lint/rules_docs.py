"""Rules about what is written for people: promises name tests that exist, links lead somewhere, the lock is whole."""

import ast
import posixpath
import re
import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lint.repository import Finding, Repository, rule

SPEC = "docs/SPEC.md"
SECURITY = "SECURITY.md"
DECISIONS = "docs/decisions/"
DECISION_HEADINGS = ("## Context", "## Decision", "## Consequences")
TARGET = re.compile(r"^([a-z][a-z0-9_-]*):(?!=)(.*)$")
TEST_ID = re.compile(r"`((?:tests|zigcore|sdk)/[^`]+?\.(?:py|zig))::([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


@rule
def makefile_help(repository: Repository) -> Iterator[Finding]:
    for number, line in enumerate(repository.files.get("Makefile", "").splitlines(), 1):
        match = TARGET.match(line)
        if match and "## " not in match.group(2):
            fix = "append `## description`, `make help` shows it"
            yield Finding("Makefile", number, f"the target {match.group(1)} has no description: {fix}")


@rule
def decisions_listed(repository: Repository) -> Iterator[Finding]:
    index = repository.files.get(DECISIONS + "README.md", "")
    numbers: dict[str, str] = {}
    for path, text in repository.matching(".md", under=DECISIONS):
        name = path.removeprefix(DECISIONS)
        if name == "README.md":
            continue
        if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name):
            yield Finding(path, 1, "is not named NNNN-what-was-decided.md")
        if (number := name[:4]) in numbers:
            yield Finding(path, 1, f"has the number of {numbers[number]}: take the next free one")
        numbers[number] = name
        if f"]({name})" not in index:
            yield Finding(path, 1, f"is not listed in {DECISIONS}README.md: add a line with its title")
        for heading in DECISION_HEADINGS:
            if heading not in text:
                yield Finding(path, 1, f"has no {heading!r}: a record is context, decision, consequences")


@rule
def promises_have_tests(repository: Repository) -> Iterator[Finding]:
    """Each row of the tables of docs/SPEC.md names at least one test, `path::name`, and all it names exist.

    So do the tables of SECURITY.md that say what is tested; in its others a link to a file of tests is enough.
    """
    for path, column in ((SPEC, ""), (SECURITY, "| test |"), (SECURITY, "| where it is shown |")):
        for number, line in rows(repository.files.get(path, ""), column):
            named = TEST_ID.findall(line)
            linked = column == "| where it is shown |" and "](tests/" in line
            if not named and not linked:
                fix = "name it as `tests/….py::test_…`, or write it"
                yield Finding(path, number, f"promises something without a test: {fix}")
            for file, name in named:
                text = repository.files.get(file)
                if text is None:
                    yield Finding(
                        path, number, f"names {file}, which does not exist: write the test, or remove the row"
                    )
                elif name not in test_names(file, text):
                    yield Finding(path, number, f"names {name!r}, which is not in {file}: write the test, or remove it")


def rows(text: str, column: str) -> Iterator[tuple[int, str]]:
    """Of the tables whose head ends with ``column``; of all tables if that is empty."""
    wanted = not column
    begins = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            begins = True
            continue
        is_head = begins
        begins = False
        if is_head and column:
            wanted = line.rstrip().endswith(column)
        is_other = re.match(r"\|[\s:|-]+\|$", line) or line.rstrip().endswith(("| test |", "| where it is shown |"))
        if wanted and not is_other:
            yield number, line


def test_names(path: str, text: str) -> set[str]:
    if path.endswith(".zig"):
        return set(re.findall(r'^test "(.+)" \{$', text, re.MULTILINE))
    names: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}::{f.name}" for f in node.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return {name for name in names if name.split("::")[-1].startswith("test")}


@rule
def links_lead_somewhere(repository: Repository) -> Iterator[Finding]:
    folders = {posixpath.dirname(path) for path in repository.files}
    folders |= {parent for folder in folders for parent in parents(folder)}
    for path, text in repository.matching(".md"):
        for number, line in enumerate(text.splitlines(), 1):
            for link in LINK.findall(line):
                if "://" in link or link.startswith("mailto:"):
                    continue
                target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
                if target not in repository.files and target not in folders:
                    yield Finding(path, number, f"links to {link}, which does not exist: correct or remove the link")


def parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


@rule
def lock_is_whole(repository: Repository) -> Iterator[Finding]:
    """Every dependency of both pyproject.toml is pinned in requirements.lock, at a version that satisfies it."""
    lock = repository.files.get("requirements.lock", "")
    pins = {canonicalize_name(name): version for name, version in PIN.findall(lock)}
    for path in ("pyproject.toml", "sdk/pyproject.toml"):
        project = tomllib.loads(repository.files.get(path, ""))
        wanted = [
            *project.get("project", {}).get("dependencies", []),
            *project.get("build-system", {}).get("requires", []),
        ]
        for group in project.get("dependency-groups", {}).values():
            wanted += group
        for text in wanted:
            requirement = Requirement(text)
            pin = pins.get(canonicalize_name(requirement.name))
            if requirement.name == "tailcut":
                continue
            if pin is None or not requirement.specifier.contains(pin, prereleases=True):
                have = f"has {pin}" if pin else "has none"
                yield Finding(path, 1, f"wants {text}, requirements.lock {have}: run `make lock`")
