"""What an operator gets: the commands that the documents name are there, and systemd takes the unit."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.exceptions import TyperException

from control_plane.__main__ import make_parser
from gateway.supervisor.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/RUNBOOK.md", "SECURITY.md", "CONTRIBUTING.md", "deploy/local/README.md")
UNIT = ROOT / "deploy" / "systemd" / "tailcut.service"
PLACEHOLDERS = {"NAME": "name", "ADDRESS": "me@example.com", "EMAIL": "me@example.com", "evt_…": "evt_1", "N": "1"}
"""What stands for something in the documents → something that could be typed."""
CONTROL_PLANE = {"operator", "migrate", "stripe-sync", "stripe-reconcile", "stripe-replay"}
"""Handed on: the control plane's own parser says what they take."""


def commands_in(text: str) -> set[str]:
    """Each ``tailcut-server …`` in backticks, in code blocks and in the unit."""
    found = re.findall(r"`(tailcut-server(?: [^`\n]*(?:\n[^`\n]+)?)?)`", text)
    found += re.findall(r"^\s*(?:\$ |ExecStart=\S*/|sudo )?(tailcut-server [^#\n]*)", text, re.MULTILINE)
    return {" ".join(each.split()) for each in found}


def parse(command: str) -> str:
    """Empty, or why it could not be typed."""
    words = [word.strip("[]") for word in shlex.split(command)[1:]]
    words = [PLACEHOLDERS.get(word, word) for word in words]
    words = [word for word in words if word not in ("…", "|")]
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if not words or words[0].startswith("-"):
        return ""
    if words[0] not in commands:
        return f"there is no command {words[0]!r}"
    if len(words) == 1:
        return ""
    try:
        if words[0] in CONTROL_PLANE:
            words = [word for at, word in enumerate(words) if "--data-dir" not in (word, words[at - 1])]
            make_parser().parse_args(words)
        else:
            commands[words[0]].make_context(words[0], words[1:])
    except (TyperException, SystemExit) as error:
        return str(error)
    return ""


def test_each_command_that_the_documents_name_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    seen = 0
    for document in (*DOCUMENTS, "deploy/systemd/tailcut.service"):
        for command in sorted(commands_in((ROOT / document).read_text())):
            refusal = parse(command)
            assert not refusal, f"{document}: `{command}`: {refusal} {capsys.readouterr().err}"
            seen += 1
    assert seen >= 15
    for wrong in ("tailcut-server upp", "tailcut-server up --gatewayport 1", "tailcut-server operator hire me@b.c"):
        assert parse(wrong), wrong  # the control


@pytest.mark.parametrize("spoilt", [False, True])
def test_systemd_takes_the_unit(tmp_path: Path, spoilt: bool) -> None:
    """The program's path is one that is here: systemd looks whether it can be executed."""
    analyze = shutil.which("systemd-analyze")
    text = UNIT.read_text().replace("/opt/tailcut/bin/tailcut-server", "/bin/true")
    if spoilt:
        text = text.replace("TimeoutStopSec=90", "TimeoutStopSec=soon")
    assert "/bin/true up --data-dir" in text
    if analyze is None:
        sections = re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)
        assert sections == ["Unit", "Service", "Install"]
        return
    unit = tmp_path / "tailcut.service"
    unit.write_text(text)
    said = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    ours = [line for line in said.stderr.splitlines() if "tailcut.service" in line]
    assert bool(ours) is spoilt, said.stderr
