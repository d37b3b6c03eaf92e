"""Uploads: every attack over HTTP, the form itself, and the bounds while bytes stream in."""

import io
import json
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.control_plane.bad_archives import ATTACKS
from tests.control_plane.bundles import PYTHON, bundle
from tests.control_plane.running import ControlPlane, Tenant, eventually
from tests.control_plane.zips import build, good

MIB = 2**20


def refused(answer: httpx.Response, reason: str) -> str:
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["type"].endswith("/errors/bundle-refused")
    assert problem["reason"] == reason, problem
    detail: str = problem["detail"]
    return detail


def test_the_good_archive_is_taken(tenant: Tenant) -> None:
    """The control of the table below."""
    content = build(good()).replace(b"3.13", PYTHON.encode())
    assert tenant.upload("hello", content).status_code == (201 if PYTHON == "3.13" else 422)
    assert tenant.upload("hello", bundle(1)).status_code == 201


@pytest.mark.parametrize("name", sorted(ATTACKS)[::6])
def test_attacks_over_http(tenant: Tenant, name: str) -> None:
    """Some of the table (test_archive.py tries all of it): the reason reaches the user, nothing else happens."""
    attack, reason = ATTACKS[name]
    spec = good()
    attack(spec)
    refused(tenant.upload("hello", build(spec)), reason)
    assert tenant.http.get("/v1/functions").json()["items"] == []


MANIFESTS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "manifest-missing"),
    "empty": (b"", "manifest-invalid"),
    "not JSON": (b"handler: main", "manifest-invalid"),
    "not UTF-8": (b'{"handler": "\xff"}', "manifest-invalid"),
    "a list": (b"[]", "manifest-invalid"),
    "no handler": (b'{"python": "3.13"}', "manifest-invalid"),
    "a name twice": (b'{"handler": "main:handle", "handler": "evil:handle", "python": "3.13"}', "manifest-invalid"),
    "an unknown field": (b'{"handler": "main:handle", "python": "3.13", "root": true}', "manifest-invalid"),
    "nested deep": (b"[" * 100_000, "manifest-invalid"),
    "a huge number": (b'{"schema_version": ' + b"9" * 5000 + b"}", "manifest-invalid"),
    "not a number": (
        b'{"handler": "main:handle", "python": "3.13", "limits": {"timeout_ms": NaN}}',
        "manifest-invalid",
    ),
    "too large": (b'{"handler": "main:handle", "lock": ["' + b"x" * 300_000 + b'"]}', "manifest-invalid"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_checked(tenant: Tenant, name: str) -> None:
    content, reason = MANIFESTS[name]
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("main.py", "def handle(): return 1\n")
        if content is not None:
            archive.writestr("tailcut.json", content)
    assert refused(tenant.upload("hello", output.getvalue()), reason).endswith(".")


FIELDS: dict[str, tuple[dict[str, object], str]] = {
    "a handler without a module": ({"handler": ":handle"}, "manifest-invalid"),
    "a handler that is a path": ({"handler": "../main:handle"}, "manifest-invalid"),
    "a handler beyond ASCII": ({"handler": "mäin:handle"}, "manifest-invalid"),
    "a handler that is not there": ({"handler": "other:handle"}, "handler-missing"),
    "a handler in a package that is not there": ({"handler": "main.part:handle"}, "handler-missing"),
    "a dot at the end": ({"handler": "main.:handle"}, "handler-missing"),
    "another Python": ({"python": "3.9"}, "python-version"),
    "a Python that is a path": ({"python": "/usr/bin/python3"}, "manifest-invalid"),
    "a limit too large": ({"limits": {"timeout_ms": 10**9}}, "manifest-invalid"),
    "a limit too small": ({"limits": {"timeout_ms": 0}}, "manifest-invalid"),
    "an unknown limit": ({"limits": {"gold": 1}}, "manifest-invalid"),
    "a variable with an equals sign": ({"env": {"A=B": "1"}}, "environment"),
    "a variable without a name": ({"env": {"": "1"}}, "environment"),
    "a variable with NUL": ({"env": {"A": "a\x00b"}}, "environment"),
    "an environment too large": ({"env": {"A": "x" * 40_000}}, "environment"),
    "a variable that is a number": ({"env": {"A": 1}}, "manifest-invalid"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_manifest_fields_are_checked(tenant: Tenant, name: str) -> None:
    fields, reason = FIELDS[name]
    detail = refused(tenant.upload("hello", bundle(1, **fields)), reason)
    assert detail.endswith(".")
    assert tenant.upload("hello", bundle(1)).status_code == 201


@pytest.mark.parametrize(
    ("handler", "file"),
    [
        ("main:handle", "main.py"),
        ("package.part:handle", "package/part.py"),
        ("package:handle", "package/__init__.py"),
        ("fast:handle", "fast.cpython-313-x86_64-linux-gnu.so"),
        ("library.web:handle", "_packages/library/web.py"),
    ],
)
def test_handlers_are_found(tenant: Tenant, handler: str, file: str) -> None:
    assert tenant.upload("hello", bundle(files={file: b"x = 1\n"}, handler=handler)).status_code == 201


def form(*parts: tuple[str, bytes], boundary: str = "b", end: bytes = b"--b--\r\n") -> bytes:
    body = b""
    for disposition, content in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + end


FILE = 'name="bundle"; filename="b.zip"'
FORMS: dict[str, tuple[bytes, int]] = {
    "no parts": (form(), 422),
    "no file": (form(('name="public"', b"true")), 422),
    "two files": (form((FILE, bundle(1)), (FILE, bundle(2))), 422),
    "a field twice": (form(('name="alias"', b"a"), ('name="alias"', b"b"), (FILE, bundle(1))), 422),
    "an unknown field": (form(('name="tenant"', b"other"), (FILE, bundle(1))), 422),
    "a file without a name": (form(('filename="b.zip"', bundle(1))), 422),
    "too many parts": (form(*[('name="alias"', b"a")] * 20), 422),
    "a field too long": (form(('name="alias"', b"a" * 5000), (FILE, bundle(1))), 413),
    "headers too long": (form((FILE + "; x=" + "y" * 10_000, bundle(1))), 400),
    "cut off": (form((FILE, bundle(1)), end=b""), 400),
    "not a form": (b"PK\x03\x04", 400),
    "empty": (b"", 400),
    "an empty file": (form((FILE, b"")), 422),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_checked(tenant: Tenant, name: str) -> None:
    body, status = FORMS[name]
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = tenant.http.post("/v1/functions/hello/versions", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["component"] == "control-plane"
    control = tenant.http.post("/v1/functions/hello/versions", content=form((FILE, bundle(1))), headers=headers)
    assert control.status_code == 201


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/zip", 415),
        ("application/json", 415),
        ("multipart/mixed; boundary=b", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=" + "b" * 71, 400),
        ("", 415),
    ],
)
def test_content_types_are_checked(tenant: Tenant, content_type: str, status: int) -> None:
    answer = tenant.http.post(
        "/v1/functions/hello/versions", content=form((FILE, bundle(1))), headers={"Content-Type": content_type}
    )
    assert answer.status_code == status, answer.text


def test_an_upload_is_cut_at_its_bound_while_it_streams(tmp_path: Path) -> None:
    """Far more is offered than is allowed; the answer comes, and the staging folder never holds more than the bound."""
    running = ControlPlane(tmp_path / "var", TAILCUT_ARCHIVE_BYTES_MAX=MIB)
    try:
        tenant = running.new_tenant("acme")
        staging = tmp_path / "var" / "control-plane" / "staging"
        largest = 0

        def chunks() -> Iterator[bytes]:
            nonlocal largest
            yield form((FILE, b""), end=b"").removesuffix(b"\r\n")
            for _ in range(512):
                yield bytes(65536)
                largest = max(largest, sum(path.stat().st_size for path in staging.iterdir()))

        try:
            answer = tenant.http.post(
                "/v1/functions/hello/versions",
                content=chunks(),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
            assert answer.status_code == 413
            assert answer.json()["allowed_bytes"] == MIB
        except httpx.TransportError:
            pass  # the server closed while we were still sending
        assert largest <= MIB
        assert eventually(lambda: not list(staging.iterdir()))
        # The control: what is within the bound is taken.
        assert tenant.upload("hello", bundle(1)).status_code == 201
        too_large = tenant.upload("hello", bytes(MIB + 1))
        assert too_large.status_code == 413
        assert str(MIB) in too_large.json()["detail"]
        assert refused(tenant.upload("hello", bytes(MIB)), "not-a-zip")
    finally:
        running.stop()


def test_slow_uploads_end_and_many_are_told_to_wait(tmp_path: Path) -> None:
    running = ControlPlane(
        tmp_path / "var", TAILCUT_UPLOADS_MAX=1, TAILCUT_UPLOAD_IDLE_TIMEOUT=json.dumps("PT6S").strip('"')
    )
    try:
        tenant = running.new_tenant("acme")
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as slow:
            slow.sendall(
                f"POST /v1/functions/hello/versions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.token}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\n".encode()
            )
            busy = eventually(lambda: (a := tenant.upload("hello", bundle(1))).status_code == 503 and a)
            assert busy.json()["type"].endswith("/errors/overloaded")
            assert busy.headers["Retry-After"]
            assert slow.recv(65536).startswith(b"HTTP/1.1 408")
        assert tenant.upload("hello", bundle(1)).status_code in (200, 201)
    finally:
        running.stop()
