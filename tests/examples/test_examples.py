"""Each example is deployed as its README says and called over HTTP, on a whole running server."""

import hashlib
import hmac
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import tailcut
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIMEOUT_S = 180
SECRET = "a-secret-of-this-test"


def deploy(server: Any, folder: Path) -> dict[str, Any]:
    """``tailcut deploy`` as a user runs it; the cache is the machine's, so that wheels are fetched once."""
    done = subprocess.run(
        [sys.executable, "-m", "tailcut", "deploy", str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "TAILCUT_SERVER": server.control_plane_url, "TAILCUT_KEY": server.key},
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["status"] == "ready"
    assert document["url"] == f"{server.gateway_url}/{server.tenant}/{document['function']}"
    return document


@pytest.fixture(scope="module")
def deployed(server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All examples, deployed from copies: a deploy may write a lock."""
    copies = tmp_path_factory.mktemp("examples")
    found = {}
    for folder in sorted(EXAMPLES.iterdir()):
        copy = copies / folder.name
        shutil.copytree(folder, copy)
        if folder.name == "webhook":
            settings = (copy / "tailcut.toml").read_text().replace("change-me-before-you-deploy", SECRET)
            (copy / "tailcut.toml").write_text(settings)
        found[folder.name] = deploy(server, copy)
    return found


@pytest.fixture
def client(server: Any) -> Any:
    with tailcut.Client(server.control_plane_url, server.key) as made:
        yield made


def test_every_example_has_a_readme_and_is_deployed(deployed):
    assert set(deployed) == {"hello", "thumbnail", "webhook", "gather"}
    styles = {name: document["style"] for name, document in deployed.items()}
    assert styles == {"hello": "typed", "thumbnail": "request", "webhook": "event", "gather": "typed"}
    for name in deployed:
        assert (EXAMPLES / name / "README.md").read_text().startswith(f"# {name}\n")


def test_the_same_code_is_the_same_version(server, deployed, tmp_path):
    shutil.copytree(EXAMPLES / "hello", tmp_path / "hello")
    again = deploy(server, tmp_path / "hello")
    assert (again["sha256"], again["version"]) == (deployed["hello"]["sha256"], deployed["hello"]["version"])


def test_hello(deployed, client):
    assert client.invoke("hello", name="Ada") == {"message": "Hello, Ada!"}
    assert client.invoke("hello") == {"message": "Hello, world!"}
    assert client.call("hello", method="GET", params={"name": "Grace"}).json() == {"message": "Hello, Grace!"}
    with pytest.raises(tailcut.InvalidArguments):
        client.invoke("hello", nmae="Ada")
    with pytest.raises(tailcut.InvalidArguments):
        client.invoke("hello", name=["Ada"])


def test_hello_is_private(deployed):
    assert httpx.post(deployed["hello"]["url"], timeout=TIMEOUT_S, trust_env=False).status_code == 401


def picture(kind: str, size: tuple[int, int] = (600, 400), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    image.save(out, format=kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
@pytest.mark.parametrize("wanted", [None, "jpeg", "png", "webp"])
def test_thumbnail_makes_images_smaller(deployed, client, kind, wanted):
    params = {"width": "120", "height": "90"} | ({"format": wanted} if wanted else {})
    answer = client.call("thumbnail", content=picture(kind), params=params)
    assert answer.status == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    expected = wanted or ("png" if kind == "gif" else kind)
    assert (image.format or "").lower() == expected
    assert image.size == (120, 80)
    assert answer.headers["content-type"] == f"image/{expected}"


def test_thumbnail_of_transparency_and_of_a_sideways_photo(deployed, client):
    answer = client.call("thumbnail", content=picture("png", mode="RGBA"), params={"format": "jpeg"})
    assert answer.status == 200, answer.text
    sideways = Image.new("RGB", (400, 200))
    exif = sideways.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    sideways.save(out, format="jpeg", exif=exif)
    answer = client.call("thumbnail", content=out.getvalue(), params={"width": "100", "height": "100"})
    assert Image.open(io.BytesIO(answer.content)).size == (50, 100)


def bomb() -> bytes:
    """A PNG of some bytes that claims 30,000 by 30,000 pixels."""
    out = bytearray(picture("png", (8, 8)))
    out[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    out[29:33] = zlib.crc32(bytes(out[12:29])).to_bytes(4, "big")
    return bytes(out)


@pytest.mark.parametrize(
    ("content", "params", "status", "said"),
    [
        (b"this is a text", {}, 415, "not a JPEG"),
        (b"%PDF-1.7", {}, 415, "not a JPEG"),
        (b"", {}, 422, "empty"),
        (picture("jpeg")[:600], {}, 422, "damaged"),
        (bomb(), {}, 422, "pixels"),
        (picture("png"), {"format": "bmp"}, 415, "'bmp'"),
        (picture("png"), {"width": "0"}, 422, "width is '0'"),
        (picture("png"), {"width": "2049"}, 422, "1 to 2048"),
        (picture("png"), {"height": "many"}, 422, "height is 'many'"),
        (picture("png"), {"quality": "96"}, 422, "1 to 95"),
    ],
)
def test_thumbnail_refuses_what_it_cannot_do(deployed, client, content, params, status, said):
    answer = client.call("thumbnail", content=content, params=params)
    assert (answer.status, said in answer.text) == (status, True), answer.text


def test_thumbnail_takes_posts_only(deployed, client):
    assert client.call("thumbnail", method="GET").status == 405


def test_thumbnail_through_curl(deployed, server, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(picture("jpeg", (1600, 1200)))
    subprocess.run(
        [
            *("curl", "--silent", "--fail-with-body", "--data-binary", f"@{tmp_path / 'photo.jpg'}"),
            *("-H", f"Authorization: Bearer {server.key}", "-o", str(tmp_path / "small.webp")),
            f"{deployed['thumbnail']['url']}?width=200&format=webp",
        ],
        check=True,
        timeout=TIMEOUT_S,
    )
    image = Image.open(tmp_path / "small.webp")
    image.load()
    assert (image.format, image.size) == ("WEBP", (200, 150))


def signed(body: bytes, *, secret: str = SECRET, age_s: int = 0) -> dict[str, str]:
    timestamp = str(int(time.time()) - age_s)
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": f"sha256={digest}"}


def send(url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S, trust_env=False)


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_webhook_takes_what_is_signed_from_anybody(deployed, kind):
    body = '{"type": "invoice.paid", "customer": "Åsa"}'.encode()
    answer = send(deployed["webhook"]["url"], body, {**signed(body), "content-type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["received"] == "invoice.paid"
    assert answer.json()["request_id"] == answer.headers["tailcut-request-id"]


BODY = b'{"type": "invoice.paid"}'
REFUSED = [
    ("no signature", {}),
    ("another secret", signed(BODY, secret="another")),
    ("another body", signed(b'{"type": "invoice.open"}')),
    ("old", signed(BODY, age_s=3600)),
    ("from the future", signed(BODY, age_s=-3600)),
    ("another time", {**signed(BODY), "X-Webhook-Timestamp": str(int(time.time()) - 1)}),
    ("no number", {**signed(BODY), "X-Webhook-Timestamp": "now"}),
    ("not ASCII", {**signed(BODY), "X-Webhook-Signature": "sha256=é"}),
]


@pytest.mark.parametrize("headers", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_webhook_refuses_what_is_not(deployed, headers):
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = httpx.post(deployed["webhook"]["url"], content=BODY, headers=encoded, timeout=TIMEOUT_S, trust_env=False)
    assert answer.status_code == 401, answer.text


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"type": 3}', 422), (b"", 400)])
def test_webhook_says_what_is_wrong_with_a_signed_body(deployed, body, status):
    assert send(deployed["webhook"]["url"], body, signed(body)).status_code == status


def test_webhook_without_its_secret_fails_at_deploy(server, tmp_path, client):
    shutil.copytree(EXAMPLES / "webhook", tmp_path / "webhook")
    (tmp_path / "webhook" / "tailcut.toml").write_text('name = "webhook-without"\nhandler = "main:handler"\n')
    with pytest.raises(tailcut.StartFailed) as caught:
        client.deploy(tmp_path / "webhook")
    assert caught.value.cause == "KeyError"
    assert "WEBHOOK_SECRET" in caught.value.traceback


def test_gather_bounds_what_runs_at_once(deployed, client):
    answer = client.invoke("gather", delays_ms=[20] * 6, concurrency=2)
    assert answer["answers"] == [f"source {index} answered after 20 ms" for index in range(6)]
    assert (answer["late"], answer["most_at_once"]) == (0, 2)
    assert answer["took_ms"] >= 60


def test_gather_does_not_wait_for_the_slow(deployed, client):
    answer = client.invoke("gather", delays_ms=[1, 60_000, 1], timeout_ms=300)
    assert [bool(entry) for entry in answer["answers"]] == [True, False, True]
    assert answer["late"] == 1


def test_gather_says_what_is_allowed(deployed, client):
    assert client.invoke("gather", delays_ms=[])["answers"] == []
    with pytest.raises(tailcut.FunctionError, match="ValueError: concurrency is 1 to 32"):
        client.invoke("gather", delays_ms=[1], concurrency=0)
    with pytest.raises(tailcut.InvalidArguments):
        client.invoke("gather", delays_ms="soon")
