"""Functions on the dashboard, as a browser without scripts uses it: deploying, versions, aliases, secrets, code, logs.

What needs a gateway (a call, the environment of a worker, lines of the log): tests/host/test_dashboard_calls.py.
"""

import io
import re
import zipfile
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from gateway.contract.output import LINES_FIELD, OUTPUT_STREAM, Line, encoder
from gateway.contract.report import StartFailure
from tests.control_plane.dashboard_browser import Browser, Forms, check_policy, tenant_of
from tests.control_plane.running import ControlPlane, Person, Tenant, Valkey, eventually, join
from tests.control_plane.test_functions import report
from tests.control_plane.test_keys_and_tenants import table
from tests.control_plane.test_people import fresh_email

CODE = 'def greet(name: str, times: int = 1) -> str:\n    return f"<b>{name}</b>" * times\n'


@pytest.fixture
def signed_in(control_plane: ControlPlane, owner: Person) -> Iterator[Browser]:
    browser = Browser(control_plane.url)
    browser.sign_in(owner.email)
    yield browser
    browser.http.close()


def deploy(browser: Browser, name: str, code: str = CODE, **fields: str) -> httpx.Response:
    browser.open("/deploy")
    values = {
        "function": name, "code": code, "timeout_ms": "2000", "cpu_ms": "500", "memory_mib": "64",
        "concurrency_max": "4", "state": "fresh", "access": "private", "alias": "live", "env": "", **fields,
    }  # fmt: skip
    return browser.submit("/deploy/versions", **values)


def upload(browser: Browser, name: str, file_name: str, content: bytes, **fields: str) -> httpx.Response:
    browser.open("/deploy?way=upload")
    form = next(form for form in Forms(browser.page.text).forms if form["action"] == "/deploy/versions")
    hidden: dict[str, str] = form["hidden"]  # type: ignore[assignment]
    data = {**hidden, "function": name, **fields}
    origin = str(browser.http.base_url).rstrip("/")
    files = {"file": (file_name, content, "application/octet-stream")}
    browser.page = browser.http.post("/deploy/versions", data=data, files=files, headers={"Origin": origin})
    return browser.page


def shows(browser: Browser, path: str, text: str) -> httpx.Response:
    """The page, as soon as it says that."""
    eventually(lambda: text in browser.open(path).text)
    return browser.page


def live(owner: Person, name: str) -> str:
    return str(owner.http.get(f"/v1/functions/{name}").json()["aliases"]["live"])


def version(owner: Person, name: str) -> dict[str, object]:
    found: dict[str, object] = owner.http.get(f"/v1/functions/{name}/versions/{live(owner, name)}").json()
    return found


def test_pasted_code_becomes_a_version_with_its_limits(signed_in: Browser, owner: Person, valkey: Valkey) -> None:
    page = deploy(signed_in, "pasted", env="GREETING=Hi\n# not this\nMODE=a=b", state="forked")
    assert page.url.path == "/functions/pasted"
    assert "A gateway unpacks it" in page.text
    assert 'http-equiv="refresh"' in page.text  # without scripts it follows, too
    made = version(owner, "pasted")
    limits = made["limits"]
    assert isinstance(limits, dict)
    assert (limits["timeout_ms"], limits["memory_bytes"], limits["state"]) == (2000, 64 * 2**20, "forked")
    assert (made["handler"], made["deployed_by"]) == ("main:greet", owner.email)
    report(valkey, str(made["id"]))
    page = shows(signed_in, "/functions/pasted", "Call it")
    assert 'http-equiv="refresh"' not in page.text
    known = next(each for each in table(valkey).versions if each.id == made["id"])
    assert known.env == {"GREETING": "Hi", "MODE": "a=b"}
    # The next one begins as this one is.
    again = signed_in.open("/deploy?function=pasted").text
    assert "GREETING=Hi" in again
    assert 'value="2000"' in again
    assert "def greet" in again
    # The very same again makes nothing.
    assert "already" in deploy(signed_in, "pasted", env="GREETING=Hi\nMODE=a=b", state="forked").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"code": "x = 1\n"}, "defines no function"),
        ({"code": "def a(): ...\ndef b(): ...\n"}, "a, b"),
        ({"env": "no equals sign"}, "Line 1 of the environment"),
        ({"timeout_ms": "5"}, "greater than or equal to 10"),
        ({"handler": "no such name!"}, "not in the form asked for"),
        ({"state": "hot"}, "Input should be"),
        ({"function": "Not A Name"}, "not in the form asked for"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_lost(
    signed_in: Browser, owner: Person, fields: dict[str, str], said: str
) -> None:
    others = {name: value for name, value in fields.items() if name != "function"}
    page = deploy(signed_in, fields.get("function", "wrong"), **others)
    assert page.status_code == 422
    assert said in page.text
    assert "timeout_ms" in page.text
    assert fields.get("code", "def greet").split("(")[0].split("=")[0].strip() in page.text
    assert owner.http.get("/v1/functions").json()["items"] == []


def zipped(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return output.getvalue()


def test_uploads(signed_in: Browser, owner: Person) -> None:
    assert upload(signed_in, "one", "anything.py", CODE.encode()).url.path == "/functions/one"
    assert version(owner, "one")["handler"] == "main:greet"
    folder = {
        "project/main.py": b"from lib import x\ndef run(): return x\n",
        "project/lib.py": b"x = 1\n",
        "__MACOSX/._x": b"",
    }
    assert upload(signed_in, "two", "project.zip", zipped(folder)).url.path == "/functions/two"
    assert version(owner, "two")["handler"] == "main:run"
    bundle = {
        "tailcut.json": b'{"handler": "app:go", "python": "3.13", "limits": {"timeout_ms": 777}}',
        "app.py": b"def go(): ...",
    }
    page = upload(signed_in, "three", "bundle.zip", zipped(bundle))
    if page.status_code == 422:  # another Python runs the tests
        assert "Python" in page.text
    else:
        assert version(owner, "three")["limits"]["timeout_ms"] == 777  # type: ignore[index]
    for name, content, said in (
        ("x.zip", b"PK no zip", "zip"),
        ("x.zip", zipped({"readme.txt": b"hello"}), "no Python file"),
        ("x.zip", zipped({"../x.py": b"x"}), "&#34;..&#34;"),
        ("x.zip", zipped({"main.py": b"0" * (33 * 2**20)}), "bytes"),
    ):
        page = upload(signed_in, "bad", name, content)
        assert (page.status_code, said in page.text) == (422, True), (said, page.text)
    signed_in.open("/deploy?way=upload")
    assert "Choose a file" in signed_in.submit("/deploy/versions", function="bad", way="upload").text
    assert owner.http.get("/v1/functions/bad").status_code == 404


def test_aliases_rollback_and_deletion(signed_in: Browser, owner: Person) -> None:
    deploy(signed_in, "moved", CODE)
    first = live(owner, "moved")
    deploy(signed_in, "moved", CODE + "# 2\n")
    second = live(owner, "moved")
    assert first != second
    signed_in.open("/functions/moved/aliases")
    assert signed_in.submit("/functions/moved/aliases", alias="canary", version=first).url.path == "/functions/moved"
    assert "moved@canary" in signed_in.open("/functions/moved").text
    signed_in.open("/functions/moved/aliases/canary/delete")
    assert "is deleted" in signed_in.submit("/functions/moved/aliases/canary/delete").text
    asked = signed_in.open("/functions/moved/rollback").text
    assert first in asked
    assert second in asked
    assert live(owner, "moved") == second  # looking changes nothing
    assert f"live is back at {first}" in signed_in.submit("/functions/moved/rollback").text
    assert live(owner, "moved") == first
    assert "Nothing to roll back to" in signed_in.open("/functions/moved/rollback").text
    signed_in.open("/functions/moved/settings")
    assert "Anybody may call it" in signed_in.submit("/functions/moved/settings", access="public").text
    signed_in.open("/functions/moved/delete")
    assert signed_in.submit("/functions/moved/delete", name="other").status_code == 422
    assert owner.http.get("/v1/functions/moved").status_code == 200
    assert "moved is deleted" in signed_in.submit("/functions/moved/delete", name="moved").text
    assert owner.http.get("/v1/functions/moved").status_code == 404


def test_the_code_of_a_version_is_shown_without_its_environment(signed_in: Browser, stranger: Tenant) -> None:
    hostile = 'def f(x="<script>alert(1)</script>"):\n    """doc"""\n    return x  # comment\n\'\'\'open'
    deploy(signed_in, "shown", hostile, env="PASSWORD=hunter2")
    page = signed_in.open("/functions/shown/code")
    check_policy(page)
    plain = re.sub(r"<[^>]+>", "", page.text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in plain
    assert '<span class="tok-k">def</span>' in page.text
    assert "hunter2" not in page.text
    assert signed_in.open("/functions/shown/code?file=tailcut.json").status_code == 404
    assert signed_in.open("/functions/shown/code?file=../../etc/passwd").status_code == 404
    theirs = stranger.deploy(
        "shown", zipped({"tailcut.json": b'{"handler": "m:f", "python": "3.13"}', "m.py": b"f = 1"})
    )
    assert signed_in.open(f"/functions/shown/code?version={theirs['version']}").status_code == 404


def test_secrets_go_in_and_never_come_out(signed_in: Browser, owner: Person, valkey: Valkey, stranger: Tenant) -> None:
    deploy(signed_in, "keeper", env="TOKEN=old\nOTHER=1")
    signed_in.open("/functions/keeper/secrets")
    assert signed_in.submit("/functions/keeper/secrets", secret="1x", value="v").status_code == 422
    page = signed_in.submit("/functions/keeper/secrets", secret="TOKEN", value="s3cret-value")
    assert "TOKEN is set" in page.text

    def env() -> dict[str, str]:
        return next(each.env for each in table(valkey).versions if each.id == live(owner, "keeper"))

    assert eventually(lambda: env() == {"TOKEN": "s3cret-value", "OTHER": "1"})
    listed = owner.http.get("/v1/functions/keeper/secrets")
    assert [each["name"] for each in listed.json()["items"]] == ["TOKEN"]
    for text in (
        page.text,
        listed.text,
        signed_in.open("/audit").text,
        signed_in.open("/functions/keeper/secrets").text,
    ):
        assert "s3cret-value" not in text
    assert "set the secret" in signed_in.open("/audit").text
    stranger.deploy("keeper", zipped({"tailcut.json": b'{"handler": "m:f", "python": "3.13"}', "m.py": b"f = 1"}))
    assert stranger.http.get("/v1/functions/keeper/secrets").json()["items"] == []
    assert stranger.http.delete("/v1/functions/keeper/secrets/TOKEN").status_code == 404
    too_much = owner.http.put("/v1/functions/keeper/secrets/BIG", json={"value": "x" * 4097})
    assert too_much.status_code == 422
    for number in range(4):
        answer = owner.http.put(f"/v1/functions/keeper/secrets/B{number}", json={"value": "x" * 4000})
    assert answer.status_code == 422  # together they must fit beside the environment
    signed_in.open("/functions/keeper/secrets/TOKEN/delete")
    signed_in.submit("/functions/keeper/secrets/TOKEN/delete")
    assert eventually(lambda: env()["TOKEN"] == "old")


def test_a_viewer_looks_and_is_offered_nothing_else(
    signed_in: Browser, owner: Person, control_plane: ControlPlane
) -> None:
    deploy(signed_in, "seen")
    viewer = join(owner, fresh_email(), "viewer")
    guest = Browser(control_plane.url)
    guest.sign_in(viewer.email)
    for path in ("/", "/functions", "/functions/seen", "/functions/seen/code", "/logs"):
        page = guest.open(path)
        assert page.status_code == 200
        assert not {form["action"] for form in Forms(page.text).forms} - {
            "/theme",
            "/sign-out",
            "/logs",
            "/functions/seen/code",
        }
        for word in ("/deploy", "Try it", "Move an alias", "Secrets"):
            assert word not in page.text, (path, word)
    for path in (
        "/deploy",
        "/functions/seen/try",
        "/functions/seen/secrets",
        "/functions/seen/settings",
        "/functions/seen/delete",
    ):
        assert guest.open(path).status_code == 403, path


def test_a_form_is_made_of_the_signature_and_hostile_ones_break_nothing(
    signed_in: Browser, owner: Person, valkey: Valkey
) -> None:
    deploy(signed_in, "typed")
    operation = {
        "requestBody": {"content": {"application/json": {"schema": {
            "type": "object",
            "required": ["name", "count"],
            "properties": {
                "name": {"type": "string"},
                "count": {"type": "integer", "minimum": 1},
                "kind": {"$ref": "#/components/schemas/typed.Kind"},
                "tags": {"type": "array", "default": ["<i>"]},
                "<script>": {"$ref": "#/components/schemas/typed.Loop"},
                "odd": {"anyOf": [{"type": 7}, 3]},
            },
        }}}}
    }  # fmt: skip
    schemas = {"typed.Kind": {"enum": ["a", 1]}, "typed.Loop": {"$ref": "#/components/schemas/typed.Loop"}}
    report(valkey, live(owner, "typed"), operation=operation, schemas=schemas)
    page = shows(signed_in, "/functions/typed/try", "arg_count")
    check_policy(page)
    assert "&lt;script&gt;" in page.text
    assert 'value="&#34;a&#34;"' in page.text
    wrong = signed_in.submit(
        "/functions/typed/try", arg_name="x", arg_count="many", arg_tags="[", target="live", way=""
    )
    assert wrong.status_code == 422
    assert "no whole number" in wrong.text
    assert "no JSON" in wrong.text
    # There is no gateway here: that is said, and no key is shown.
    away = signed_in.submit("/functions/typed/try", arg_name="x", arg_count="2", target="live", way="")
    assert "gave no answer" in away.text
    assert "tck_" not in away.text


def test_a_failed_deploy_shows_its_traceback(signed_in: Browser, owner: Person, valkey: Valkey) -> None:
    deploy(signed_in, "fails")
    failure = StartFailure(type="ImportError", message="no lib", traceback='File "main.py", line 1 <x>')
    report(valkey, live(owner, "fails"), error=failure)
    page = shows(signed_in, "/functions/fails", "did not start")
    assert "line 1 &lt;x&gt;" in page.text
    assert "Correct it" in page.text
    assert "did not start: ImportError: no lib" in signed_in.open("/").text


def test_the_overview_teaches_and_a_page_that_follows_swallows_no_message(signed_in: Browser, owner: Person) -> None:
    page = signed_in.open("/")
    check_policy(page)
    assert "From nothing to a first call" in page.text
    assert "tailcut login --server" in page.text
    owner.http.post("/v1/keys", json={"scopes": ["invoke"]})
    assert "tailcut login --server" not in signed_in.open("/").text  # this step is done
    deploy(signed_in, "first")
    page = signed_in.open("/")
    assert "tailcut invoke first" in page.text
    assert 'hx-select="#overview"' in page.text
    for shown in ("hour", "day", "month"):
        assert signed_in.open(f"/?range={shown}").status_code == 200
    # What a page loads by itself takes no message away from whoever looks next.
    signed_in.open("/functions/first/aliases")
    posted = signed_in.page.text
    form = next(form for form in Forms(posted).forms if form["action"] == "/functions/first/aliases")
    data = {**form["hidden"], "alias": "canary", "version": live(owner, "first")}  # type: ignore[dict-item]
    origin = str(signed_in.http.base_url).rstrip("/")
    headers = {"Origin": origin}
    done = signed_in.http.post("/functions/first/aliases", data=data, headers=headers, follow_redirects=False)
    assert done.status_code == 303
    polled = signed_in.http.get("/", headers={"HX-Request": "true"})
    assert "canary points to" not in polled.text
    assert "canary points to" in signed_in.open("/functions/first").text


# -- Logs -------------------------------------------------------------------------------------------------------------


def printed(valkey: Valkey, *lines: Line) -> None:
    valkey.client.xadd(OUTPUT_STREAM, {LINES_FIELD: encoder.encode(list(lines))})


def line(tenant_id: str, text: str, **fields: str) -> Line:
    base = {"function": "f", "version_id": "ver_1", "request_id": "ab" * 16, "stream": "stdout", **fields}
    return msgspec.convert({"time_ns": 1_800_000_000_000_000_000, "tenant_id": tenant_id, "text": text, **base}, Line)


def test_lines_are_found_followed_and_nobody_elses(
    signed_in: Browser, owner: Person, valkey: Valkey, tenant: Tenant
) -> None:
    own = str(owner.http.get("/v1/tenant").json()["id"])
    before = owner.http.get("/v1/logs").json()["follow"]
    printed(
        valkey,
        line(own, "first <b>"), line(tenant.id, "theirs"), line(own, "second 50%", function="g", stream="stderr"),
        line(own, "third", request_id="cd" * 16),
    )  # fmt: skip
    valkey.client.xadd(OUTPUT_STREAM, {LINES_FIELD: b"not json"})
    valkey.client.xadd(OUTPUT_STREAM, {b"other": b""})
    printed(valkey, line(own, "fourth \0 nul"))

    def texts(**query: str) -> list[str]:
        return [each["text"] for each in owner.http.get("/v1/logs", params=query).json()["items"]]

    everything = ["fourth \N{REPLACEMENT CHARACTER} nul", "third", "second 50%", "first <b>"]
    assert eventually(lambda: texts() == everything)
    assert texts(function="g") == ["second 50%"]
    assert texts(stream="stderr") == ["second 50%"]
    assert texts(contains="0%") == ["second 50%"]
    assert texts(contains="FIRST") == ["first <b>"]
    assert texts(request_id="cd" * 16) == ["third"]
    first = owner.http.get("/v1/logs", params={"limit": "3"}).json()
    assert texts(limit="3", cursor=first["next_cursor"]) == ["first <b>"]
    news = owner.http.get("/v1/logs/follow", params={"after": before, "wait_s": "5"}).json()
    assert [each["text"] for each in news["items"]] == everything[::-1]
    assert owner.http.get("/v1/logs/follow", params={"after": news["follow"]}).json()["items"] == []
    assert [each["text"] for each in tenant.http.get("/v1/logs").json()["items"]] == ["theirs"]  # the control
    assert tenant.http.get("/v1/logs", params={"request_id": "cd" * 16}).json()["items"] == []
    page = signed_in.open("/logs")
    check_policy(page)
    assert "first &lt;b&gt;" in page.text
    assert "theirs" not in page.text
    assert "third" not in signed_in.open("/logs?function=g").text
    assert 'hx-trigger="every 2s"' in signed_in.open("/logs?live=1").text
    # What a database would choke on.
    assert owner.http.get("/v1/logs", params={"since": "0001-01-01T00:00:00+01:00"}).status_code == 422
    assert signed_in.open("/logs?function=%00&version=%00&request_id=%00&contains=%00&stream=%00").status_code == 200
    assert signed_in.open("/functions/%00").status_code == 422


def test_who_prints_without_end_is_told_what_is_missing(owner: Person, valkey: Valkey, tenant: Tenant) -> None:
    for _ in range(5):
        printed(valkey, *(line(tenant.id, "x" * 8000) for _ in range(250)))
    printed(valkey, line(str(owner.http.get("/v1/tenant").json()["id"]), "quiet"))
    assert eventually(lambda: owner.http.get("/v1/logs").json()["items"])[0]["text"] == "quiet"
    found = tenant.http.get("/v1/logs", params={"stream": "notice"}).json()["items"]
    assert "were not kept" in found[0]["text"]
    assert tenant_of(owner)
