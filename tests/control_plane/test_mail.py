"""Mails over SMTP: to a small server of the test's own, which can also refuse."""

import email
import email.policy
import socket
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.control_plane.running import ControlPlane, eventually


class Letterbox(socketserver.ThreadingTCPServer):
    """RFC 5321 as far as a client of ours goes. ``is_refusing``: everybody's mail is put off with 451."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refused_count = 0
        self.is_refusing = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server_address[1]}"


class _Conversation(socketserver.StreamRequestHandler):
    server: Letterbox

    def handle(self) -> None:
        recipients: list[str] = []
        self._say("220 letterbox")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT" and self.server.is_refusing:
                self.server.refused_count += 1
                self._say("451 later")
            elif verb == b"RCPT":
                recipients.append(line.decode().split("<")[1].split(">")[0])
                self._say("250 ok")
            elif verb == b"DATA":
                self._say("354 go on")
                self.server.mails.append((recipients, self._message()))
                self._say("250 ok")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _message(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        parsed = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


@pytest.fixture
def letterbox() -> Iterator[Letterbox]:
    made = Letterbox()
    yield made
    made.shutdown()
    made.server_close()


def test_a_mail_arrives(letterbox: Letterbox, tmp_path: Path) -> None:
    running = ControlPlane(
        tmp_path / "var", TAILCUT_SMTP_URL=letterbox.url, TAILCUT_MAIL_FROM="Tailcut <no-reply@tailcut.example>"
    )
    try:
        with running.client() as client:
            body = {"email": "ada@example.com", "tenant": "acme"}
            assert client.post("/v1/sign-up", json=body).status_code == 202
            assert eventually(lambda: letterbox.mails)
            [(recipients, message)] = letterbox.mails
            assert recipients == ["ada@example.com"]
            assert message["From"] == "Tailcut <no-reply@tailcut.example>"
            assert message["To"] == "ada@example.com"
            assert message["Message-ID"].endswith("@tailcut.example>")
            text = message.get_content()
            assert f"{running.url}/sign-up/finish?token=" in text
            token = text.partition("token=")[2].split()[0]
            finish = {"token": token, "password": "seven wooden boats"}
            assert client.post("/v1/sign-up/finish", json=finish).status_code == 201
            # To an address that is nobody's nothing is sent, whatever the answer was.
            assert client.post("/v1/password-resets", json={"email": "nobody@example.com"}).status_code == 202
            assert client.post("/v1/password-resets", json={"email": "ada@example.com"}).status_code == 202
            assert eventually(lambda: len(letterbox.mails) == 2)
        assert {recipient for recipients, _ in letterbox.mails for recipient in recipients} == {"ada@example.com"}
        assert token not in running.log.read_text()  # only where no server is set
    finally:
        running.kill()


def test_a_mail_waits_for_its_server_and_for_ours(letterbox: Letterbox, tmp_path: Path) -> None:
    """Put off, then the process is killed: the mail is in the database, and a fresh one is sent by the next."""
    letterbox.is_refusing = True
    running = ControlPlane(tmp_path / "var", TAILCUT_SMTP_URL=letterbox.url)
    try:
        with running.client() as client:
            client.post("/v1/sign-up", json={"email": "ada@example.com", "tenant": "acme"})
            assert eventually(lambda: letterbox.refused_count)
            assert eventually(lambda: "mail-failed" in running.log.read_text())
            assert letterbox.mails == []
        running.kill()
        letterbox.is_refusing = False
        running.restart()
        with running.client() as client:
            client.post("/v1/sign-up", json={"email": "bob@example.com", "tenant": "bobs"})
            assert eventually(lambda: {"bob@example.com"} <= {to for tos, _ in letterbox.mails for to in tos})
        # The one that was put off comes too, ten seconds after its first attempt.
        assert eventually(lambda: {"ada@example.com"} <= {to for tos, _ in letterbox.mails for to in tos})
    finally:
        running.kill()


def test_a_server_that_is_not_there_costs_no_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = ControlPlane(tmp_path / "var", TAILCUT_SMTP_URL=f"smtp://127.0.0.1:{port}")
    try:
        with running.client() as client:
            body = {"email": "ada@example.com", "tenant": "acme"}
            assert client.post("/v1/sign-up", json=body).status_code == 202
            assert eventually(lambda: "mail-failed" in running.log.read_text())
            assert client.get("/healthz").status_code == 200
    finally:
        running.kill()
