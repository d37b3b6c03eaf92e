"""The import rules are tried on a small project in a folder of its own: they must break when an import breaks them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = """
[importlinter]
root_packages =
    gateway
    control_plane
include_external_packages = True
contract_types =
    only_imports: tests.lint.import_contracts.OnlyImports
    only_importers: tests.lint.import_contracts.OnlyImporters

[importlinter:contract:1]
name = control plane
type = only_imports
source = control_plane
ours =
    gateway.contract

[importlinter:contract:2]
name = worker
type = only_imports
source = gateway.worker
others =
    msgspec

[importlinter:contract:3]
name = cffi
type = only_importers
libraries =
    cffi
importers =
    gateway.core
"""
FILES = {
    "gateway/contract.py": "import json\n",
    "gateway/core.py": "import cffi\n",
    "gateway/worker.py": "import json, msgspec\n",
    "control_plane/app.py": "from gateway import contract\nimport fastapi\n",
}


@pytest.mark.parametrize(
    ("path", "text", "kept"),
    [
        ("control_plane/app.py", "from gateway import contract\n", True),
        ("control_plane/app.py", "from gateway import core\n", False),
        ("control_plane/app.py", "import gateway.worker as w\n", False),
        ("gateway/worker.py", "import fastapi\n", False),
        ("gateway/worker.py", "def late():\n    from gateway.core import x\n", False),
        ("gateway/contract.py", "import cffi\n", False),
    ],
)
def test_a_forbidden_import_breaks_its_contract(tmp_path: Path, path: str, text: str, kept: bool) -> None:
    for name, content in {**FILES, path: text, "gateway/__init__.py": "", "control_plane/__init__.py": ""}.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    (tmp_path / ".importlinter").write_text(CONFIG)
    paths = [str(tmp_path), str(ROOT)]
    program = f"import sys; sys.path[:0] = {paths}; from importlinter.cli import *; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode == 0) is kept, result.stdout + result.stderr
    assert "Contracts: " in result.stdout, result.stdout + result.stderr
