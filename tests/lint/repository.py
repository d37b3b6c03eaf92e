"""What the rules read: the text files of the repository, and what a rule answers. Built from git or from a dict."""

import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXCEPTIONS_PATH = "tests/lint/exceptions.toml"


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int
    text: str
    """What is wrong, then how to repair it."""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    check: Callable[["Repository"], Iterator[Finding]]


RULES: list[Rule] = []


def rule(check: Callable[["Repository"], Iterator[Finding]]) -> Callable[["Repository"], Iterator[Finding]]:
    """Registers a rule under its function's name."""
    RULES.append(Rule(check.__name__.replace("_", "-"), check))
    return check


@dataclass(frozen=True, slots=True)
class Repository:
    """Paths (with forward slashes, from the root) and texts; binary files are there with an empty text."""

    files: dict[str, str] = field(default_factory=dict)

    def matching(self, *suffixes: str, under: str | tuple[str, ...] = "") -> Iterator[tuple[str, str]]:
        for path, text in sorted(self.files.items()):
            if path.endswith(suffixes) and path.startswith(under):
                yield path, text

    def excepted(self, rule_name: str) -> dict[str, str]:
        """Paths for which the rule is lifted, with the reason."""
        text = self.files.get(EXCEPTIONS_PATH, "")
        entries = tomllib.loads(text).get("exception", [])
        return {entry["path"]: entry["reason"] for entry in entries if entry["rule"] == rule_name}


def tracked(root: Path = ROOT) -> Repository:
    """Tracked files and new ones that git would not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    files: dict[str, str] = {}
    for path in filter(None, listing.split("\0")):
        file = root / path
        if not file.is_file() or file.is_symlink():
            continue
        try:
            files[path] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            files[path] = ""
    return Repository(files)


def findings(repository: Repository, rules: list[Rule] | None = None) -> Iterator[tuple[Rule, Finding]]:
    """What every rule finds, less what exceptions.toml lifts; a lifted path that needs no lifting is a finding too."""
    for each in RULES if rules is None else rules:
        lifted = repository.excepted(each.name)
        used: set[str] = set()
        for finding in each.check(repository):
            if finding.path in lifted:
                used.add(finding.path)
            else:
                yield each, finding
        for path in sorted(set(lifted) - used):
            text = f"the exception for {path} from {each.name} is not needed: remove it"
            yield each, Finding(EXCEPTIONS_PATH, 1, text)
