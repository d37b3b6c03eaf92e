"""Each rule is shown a good and a bad sample: a rule that finds nothing anywhere would pass unnoticed."""

import pytest

from tests.lint.__main__ import MODULES
from tests.lint.repository import EXCEPTIONS_PATH, RULES, Repository, Rule, findings, tracked
from tests.lint.rules_queries import CROSSINGS_PATH

PY = '"""What it is."""\n'
ZIG = "//! What it is.\n"
DECISION = "# A\n## Context\n## Decision\n## Consequences\n"
LOCKED = "a==2.0 \\\n    --hash=sha256:00\n"

MODEL = {
    "control_plane/models/auth.py": PY
    + "class Key:\n    id: Mapped[str]\n    tenant_id: Mapped[str]\nclass Free:\n    id: Mapped[str]\n"
}
QUERY = PY + "async def find(session, tenant_id, key_id, caller):\n    return select(Key).where(%s)\n"
CROSSING = '[[crossing]]\nfunction = "control_plane/keys.py::find"\nreason = "a credential"\n'

# rule → (files that keep it, files that break it). Words that the rules look for are written in pieces here.
SAMPLES: dict[str, list[tuple[dict[str, str], dict[str, str]]]] = {
    "file-size": [({"a.py": PY + "x = 1\n" * 400}, {"a.py": PY + "x = 1\n" * 801})],
    "header": [
        ({"a.py": PY, "tests/x/__init__.py": ""}, {"a.py": "x = 1\n"}),
        ({"a.zig": ZIG}, {"a.zig": "// What it is.\n"}),
    ],
    "unfinished": [
        ({"a.md": "todos are issues"}, {"a.md": "TO" + "DO later"}),
        ({"a.py": PY}, {"a.py": PY + "raise NotImplemented" + "Error\n"}),
    ],
    "machine-paths": [
        ({"a.sh": "cd var/wo" + "rk/x; ls https://h/ro" + "ot/x"}, {"a.sh": "ls /ro" + "ot/x"}),
        ({"a.md": "the home of /homework/"}, {"a.md": "see /wo" + "rk/main"}),
    ],
    "registries": [
        ({"a.md": "from your registry"}, {"a.md": "from https://py" + "pi.org/x"}),
        ({"requirements.lock": LOCKED}, {"requirements.lock": "--index" + "-url https://x\n" + LOCKED}),
    ],
    "words": [
        ({"a.py": PY + "planet = 1\nprint('an account of it')\n"}, {"a.py": PY + "def run_job(): ...\n"}),
        ({"a.py": PY + "import asyncio\nwait_task = 1\n"}, {"a.py": PY + "wait_task = 1\n"}),
        ({"a.py": PY + "route = '/v1/tenants'\n"}, {"a.py": PY + "route = '/v1/accounts/{id}'\n"}),
        ({"a.zig": ZIG + "const tier = 1;\n"}, {"a.zig": ZIG + "pub fn planMake() void {}\n"}),
        ({"tier.py": PY}, {"control_plane/jobs/x.py": PY}),
    ],
    "environment": [
        (
            {"gateway/settings.py": PY + "import os\nos.environ['A']\n"},
            {"gateway/a.py": PY + "import os\nos.environ['A']\n"},
        ),
        (
            {"gateway/a.py": PY + "import os\nos.environ.update(A='1')\n"},
            {"sdk/tailcut/a.py": PY + "from os import getenv\n"},
        ),
        ({"tests/a.py": PY + "import os\nos.getenv('A')\n"}, {"gateway/a.py": PY + "import os\nos.getenv('A')\n"}),
    ],
    "tenant-filter": [
        (
            {**MODEL, "control_plane/keys.py": QUERY % "Key.tenant_id == tenant_id, Key.id == key_id"},
            {**MODEL, "control_plane/keys.py": QUERY % "Key.id == key_id"},
        ),
        (
            {**MODEL, "control_plane/keys.py": QUERY % "Key.tenant_id == caller.tenant_id"},
            {**MODEL, "control_plane/keys.py": QUERY % "Other.tenant_id == tenant_id"},
        ),
        (
            {**MODEL, "control_plane/keys.py": PY + "async def f(session):\n    return await session.get(Free, 1)\n"},
            {**MODEL, "control_plane/keys.py": PY + "async def f(session):\n    return await session.get(Key, 1)\n"},
        ),
        (
            {**MODEL, "control_plane/keys.py": QUERY % "Key.id == key_id", CROSSINGS_PATH: CROSSING},
            {**MODEL, "control_plane/keys.py": PY, CROSSINGS_PATH: CROSSING},
        ),
    ],
    "skips": [
        ({"tests/test_a.py": PY}, {"tests/test_a.py": PY + "@pytest.mark.sk" + "ip\ndef test_a(): ...\n"}),
        ({"zigcore/a.zig": ZIG}, {"zigcore/a.zig": ZIG + "return error.SkipZig" + "Test;\n"}),
    ],
    "tests-can-fail": [
        (
            {"tests/test_a.py": PY + "def test_a():\n    assert f()\n"},
            {"tests/test_a.py": PY + "def test_a():\n    f()\n"},
        ),
        (
            {"tests/test_a.py": PY + "def test_a():\n    expect_answer(f())\n"},
            {"tests/test_a.py": PY + "def test_a(): ...\n"},
        ),
    ],
    "settings-units": [
        (
            {"gateway/settings.py": PY + "class S:\n    idle_timeout_s: int = 1\n"},
            {"gateway/settings.py": PY + "class S:\n    idle_timeout: int = 1\n"},
        )
    ],
    "zig-imports": [
        (
            {"zigcore/src/http/a.zig": ZIG + '_ = @import("../io/sys.zig");\n'},
            {"zigcore/src/io/a.zig": ZIG + '_ = @import("../http/a.zig");\n'},
        ),
        (
            {"zigcore/src/runtime/a.zig": ZIG + '_ = @import("../pool/frame.zig");\n'},
            {"zigcore/src/runtime/a.zig": ZIG + '_ = @import("../pool/pool.zig");\n'},
        ),
        (
            {"zigcore/src/pool/frame.zig": ZIG + '_ = @import("../limits.zig");\n'},
            {"zigcore/src/pool/frame.zig": ZIG + '_ = @import("pool.zig");\n'},
        ),
        (
            {"zigcore/src/zigcore.zig": ZIG + '_ = @import("abi/a.zig");\n'},
            {"zigcore/src/new/a.zig": ZIG + '_ = @import("b.zig");\n'},
        ),
        (
            {"zigcore/src/fuzz.zig": ZIG + '_ = @import("http/a.zig");\n'},
            {"zigcore/src/http/a.zig": ZIG + '_ = @import("../fuzz.zig");\n'},
        ),
        (
            {"zigcore/src/abi/a.zig": ZIG + '_ = @import("../reactor.zig");\n'},
            {"zigcore/src/reactor.zig": ZIG + '_ = @import("abi/a.zig");\n'},
        ),
    ],
    "system-calls": [
        (
            {"zigcore/src/io/sys.zig": ZIG + "_ = linux.close(fd);\n"},
            {"zigcore/src/pool/a.zig": ZIG + "_ = linux.close(fd);\n"},
        ),
        (
            {
                "zigcore/src/pool/a.zig": ZIG
                + 'test "x" {\n    _ = std.posix.close(fd);\n}\nconst fd: linux.fd_t = 1;\n'
            },
            {"zigcore/src/pool/a.zig": ZIG + 'test "x" {\n}\nfn f() void {\n    _ = std.posix.close(fd);\n}\n'},
        ),
    ],
    "bounds-have-units": [
        ({"zigcore/src/limits.zig": "pub const queue_max = 1;\n"}, {"zigcore/src/limits.zig": "pub const queue = 1;\n"})
    ],
    "makefile-help": [
        ({"Makefile": "PY := x\nup: setup ## start\n\techo\n"}, {"Makefile": "up: setup\n\techo\n"}),
    ],
    "decisions-listed": [
        (
            {"docs/decisions/0001-a.md": DECISION, "docs/decisions/README.md": "- [A](0001-a.md)\n"},
            {"docs/decisions/0001-a.md": DECISION, "docs/decisions/README.md": "nothing\n"},
        ),
        (
            {"docs/decisions/0001-a.md": DECISION, "docs/decisions/README.md": "[A](0001-a.md)\n"},
            {"docs/decisions/0001-a.md": "# A\n", "docs/decisions/README.md": "[A](0001-a.md)\n"},
        ),
    ],
    "promises-have-tests": [
        (
            {
                "docs/SPEC.md": "| promise | test |\n|---|---|\n| p | `tests/test_a.py::test_a` |\n",
                "tests/test_a.py": "def test_a(): ...\n",
            },
            {"docs/SPEC.md": "| p | `tests/test_a.py::test_b` |\n", "tests/test_a.py": "def test_a(): ...\n"},
        ),
        (
            {"docs/SPEC.md": "| p | `zigcore/a.zig::b c` |\n", "zigcore/a.zig": 'test "b c" {\n}\n'},
            {"docs/SPEC.md": "| p | `zigcore/a.zig::b` |\n", "zigcore/a.zig": 'test "b c" {\n}\n'},
        ),
        (
            {
                "SECURITY.md": "| a | test |\n|---|---|\n| p | `tests/a.py::test_a` |\n",
                "tests/a.py": "def test_a(): ...\n",
            },
            {
                "SECURITY.md": "| a | test |\n|---|---|\n| p | `tests/a.py::test_b` |\n",
                "tests/a.py": "def test_a(): ...\n",
            },
        ),
        (
            {
                "SECURITY.md": "| a | where it is shown |\n|---|---|\n| p | [x](tests/) |\n"
                "\n| a | b |\n|---|---|\n| p | q |\n"
            },
            {"SECURITY.md": "| a | where it is shown |\n|---|---|\n| p | everywhere |\n"},
        ),
        (
            {
                "docs/SPEC.md": "| p | `tests/t.py::TestA::test_a` |\n",
                "tests/t.py": "class TestA:\n    def test_a(self): ...\n",
            },
            {"docs/SPEC.md": "| p | by hand |\n"},
        ),
    ],
    "links-lead-somewhere": [
        (
            {"docs/a.md": "[b](../b.md#c) [d](https://x) [e](sub)", "b.md": "", "docs/sub/x": ""},
            {"docs/a.md": "[b](b.md)", "b.md": ""},
        ),
    ],
    "lock-is-whole": [
        (
            {"pyproject.toml": "[project]\ndependencies = ['A>=1']\n", "requirements.lock": LOCKED},
            {"pyproject.toml": "[project]\ndependencies = ['A>=3']\n", "requirements.lock": LOCKED},
        ),
        (
            {"pyproject.toml": "[dependency-groups]\ndev = ['a==2.0']\n", "requirements.lock": LOCKED},
            {"pyproject.toml": "[dependency-groups]\ndev = ['b']\n", "requirements.lock": LOCKED},
        ),
    ],
}
BY_NAME = {rule.name: rule for rule in RULES}
CASES = [(name, good, bad) for name, pairs in SAMPLES.items() for good, bad in pairs]


def found(rule: Rule, files: dict[str, str]) -> list[str]:
    return [finding.text for _, finding in findings(Repository(files), [rule]) if not finding.warning]


def test_every_rule_has_samples() -> None:
    assert len(MODULES) == 5
    assert set(SAMPLES) == set(BY_NAME)


@pytest.mark.parametrize(("name", "good", "bad"), CASES, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)])
def test_a_rule_passes_the_good_sample_and_finds_the_bad_one(
    name: str, good: dict[str, str], bad: dict[str, str]
) -> None:
    assert found(BY_NAME[name], good) == []
    assert found(BY_NAME[name], bad) != []


def test_a_large_file_is_a_warning_before_it_is_an_error() -> None:
    result = [finding for _, finding in findings(Repository({"a.py": PY + "x = 1\n" * 600}), [BY_NAME["file-size"]])]
    assert [finding.warning for finding in result] == [True]


def test_an_exception_lifts_one_rule_for_one_file_and_is_reported_once_it_is_idle() -> None:
    entry = '[[exception]]\nrule = "header"\npath = "a.py"\nreason = "generated"\n'
    lifted = {"a.py": "x = 1\n", "b.py": "x = 1\n", EXCEPTIONS_PATH: entry}
    assert [f.path for _, f in findings(Repository(lifted), [BY_NAME["header"]])] == ["b.py"]
    idle = {"a.py": PY, EXCEPTIONS_PATH: entry}
    assert [f.path for _, f in findings(Repository(idle), [BY_NAME["header"]])] == [EXCEPTIONS_PATH]


def test_the_rules_see_this_repository() -> None:
    files = tracked().files
    assert "Makefile" in files
    assert "zigcore/src/limits.zig" in files
    assert not any(path.startswith(".venv/") for path in files)
