"""``tailcut login`` by a person, at a terminal, against a real control plane."""

import os
import pty
import select
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from tests.control_plane.running import PASSWORD, PATIENCE_S, ControlPlane, Person, join
from tests.control_plane.test_people import enrol, fresh_email, totp


class Terminal:
    """The command at a terminal of its own; what it asks is answered."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._home = home
        env = {name: value for name, value in os.environ.items() if not name.startswith("TAILCUT_")}
        master, slave = pty.openpty()
        self._master = master
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tailcut", "login", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "XDG_CONFIG_HOME": str(home), "NO_COLOR": "1"},
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        """``question`` with the space after it: that comes when the echo is off and what was typed early is gone."""
        deadline = time.monotonic() + PATIENCE_S
        before = self.seen.count(question)
        while self.seen.count(question) == before:
            assert time.monotonic() < deadline, self.seen
            if not self._read():
                raise AssertionError(self.seen)
        os.write(self._master, text.encode() + b"\n")

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait(PATIENCE_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE_S)
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self.seen += data.decode(errors="replace")
        return bool(data)


def kept(home: Path) -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((home / "tailcut" / "config.toml").read_text())
    return found


def test_with_an_email_address_a_key_is_made(owner: Person, control_plane: ControlPlane, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "--server", control_plane.url, "--email", owner.email)
    terminal.answer("Password: ", PASSWORD)
    assert terminal.end() == 0, terminal.seen
    profile = kept(tmp_path)
    assert profile["tenant"] == owner.http.headers["Tailcut-Tenant"]
    assert PASSWORD not in terminal.seen
    assert profile["key"] not in terminal.seen
    with control_plane.client(profile["key"]) as client:
        caller = client.get("/v1/tenant").json()["caller"]
        assert caller["scopes"] == ["deploy", "invoke", "read"]
        shown = client.get(f"/v1/keys/{caller['key_id']}").json()
    assert shown["created_by"] == owner.email
    assert shown["expires_at"] is not None
    # The session that made it has ended again.
    assert [each["id"] for each in owner.http.get("/v1/sessions").json()["items"]] == [owner.session_id]


def test_with_a_second_factor(owner: Person, control_plane: ControlPlane, tmp_path: Path) -> None:
    secret, _ = enrol(owner)
    terminal = Terminal(tmp_path, "--server", control_plane.url, "--email", owner.email)
    terminal.answer("Password: ", PASSWORD)
    terminal.answer("authenticator: ", totp(secret))
    assert terminal.end() == 0, terminal.seen
    assert kept(tmp_path)["key"].startswith("tck_")


def test_a_wrong_password_keeps_nothing(owner: Person, control_plane: ControlPlane, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "--server", control_plane.url)
    terminal.answer("(or a key): ", owner.email)
    terminal.answer("Password: ", "not this one")
    assert terminal.end() == 3, terminal.seen
    assert not (tmp_path / "tailcut").exists()


def test_of_several_tenants_one_is_named(owner: Person, control_plane: ControlPlane, tmp_path: Path) -> None:
    viewer = join(owner, fresh_email(), "viewer")
    mine = f"mine-{time.monotonic_ns()}"
    assert viewer.http.post("/v1/person/tenants", json={"name": mine}).status_code == 201
    base = ("--server", control_plane.url, "--email", viewer.email)
    for arguments, code, text in (
        (base, 3, "--tenant"),
        ((*base, "--tenant", "nobodys"), 3, "no member"),
        ((*base, "--tenant", owner.http.headers["Tailcut-Tenant"]), 3, "makes no keys"),
        ((*base, "--tenant", mine), 0, "logged in"),
    ):
        terminal = Terminal(tmp_path, *arguments)
        terminal.answer("Password: ", PASSWORD)
        assert terminal.end() == code, terminal.seen
        assert text in terminal.seen
    assert kept(tmp_path)["tenant"] == mine
