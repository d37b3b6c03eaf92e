"""Every problem type that the gateway can answer has its section in docs/errors.md, with its status and component."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ABOUT = re.compile(r'^    \.(\w+) = \.\{ \.status = (\d+), \.slug = "([a-z-]+)".*$', re.MULTILINE)


def problem_types() -> list[tuple[str, int, str, str]]:
    source = (ROOT / "zigcore" / "src" / "http" / "problem.zig").read_text()
    table = source.split("const abouts = ", 1)[1].split("});", 1)[0]
    return [
        (match[1], int(match[2]), match[3], "function" if ".component = .function" in match[0] else "gateway")
        for match in ABOUT.finditer(table)
    ]


def sections() -> dict[str, str]:
    parts = re.split(r"^## (\S+)$", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_type_of_the_enum_was_found() -> None:
    source = (ROOT / "zigcore" / "src" / "http" / "problem.zig").read_text()
    enum = source.split("pub const Type = enum {", 1)[1].split("pub fn", 1)[0]
    names = re.findall(r"^    (\w+),$", enum, flags=re.MULTILINE)
    assert names == [name for name, *_ in problem_types()]


def test_every_type_is_explained() -> None:
    explained = sections()
    for name, status, slug, component in problem_types():
        assert slug in explained, f"problem type {name}: docs/errors.md has no section ## {slug}"
        first_line = explained[slug].strip().splitlines()[0]
        assert str(status) in first_line, f"## {slug}: its first line does not name the status {status}"
        assert f"component `{component}`" in first_line, (
            f"## {slug}: its first line does not say component `{component}`"
        )
        assert "retry:" in first_line, f"## {slug}: its first line does not say whether to retry"


def test_nothing_else_is_explained() -> None:
    """But for what the egress says to functions (gateway/egress/refusal.py)."""
    assert set(sections()) == {slug for _, _, slug, _ in problem_types()} | {"egress-refused"}
