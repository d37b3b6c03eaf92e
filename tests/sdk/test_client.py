"""Both clients against a server that does what it is told: retries only where safe, typed errors, bounded waits."""

import asyncio
import inspect
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import tailcut
from tailcut import _answers, _transport

from tests.sdk.scripted import PROBLEM, Reply, Scripted, json_reply, problem

KEY = "tck_0123456789abcdefghijklmnopqrstuvwxyz"
FUNCTION = {"name": "hello", "public": False, "url": "http://g/t/hello", "aliases": {"live": "ver_1"}}


class Driver:
    """One of the clients, called the same way."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, url: str, operation: Callable[[Any], Any], **options: Any) -> Any:
        options = {"gateway_url": url, "tenant": "t", **options}
        if self.kind == "sync":
            with tailcut.Client(url, KEY, **options) as client:
                return operation(client)

        async def run() -> Any:
            async with tailcut.AsyncClient(url, KEY, **options) as client:
                return await operation(client)

        return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest, clean_environment: object) -> Driver:
    return Driver(request.param)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited; it does not wait."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("tailcut._client.time.sleep", taken.append)
    monkeypatch.setattr("tailcut._async_client.asyncio.sleep", pause)
    return taken


OVERLOADED = problem(503, "overloaded", headers={"retry-after": "1"})
QUOTA = problem(429, "quota-exceeded", headers={"retry-after": "2"})


@pytest.mark.parametrize("refusal", [OVERLOADED, QUOTA])
@pytest.mark.parametrize(
    "operation",
    [
        lambda client: client.invoke("hello", name="Ada"),
        lambda client: client.call("hello"),
        lambda client: client.rollback("hello"),
        lambda client: client.delete("hello"),
        lambda client: client.functions(),
    ],
)
def test_what_was_not_executed_is_sent_again(drive, scripted, pauses, refusal, operation):
    good = json_reply({"items": [], "version": "ver_1"})
    scripted.replies = [refusal, refusal, good]
    drive(scripted.url, operation)
    assert len(scripted.seen) == 3
    assert pauses == [float(refusal.headers["retry-after"])] * 2
    first, second, third = scripted.seen
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    # The same wish each time: the server can tell a repetition from a second one.
    assert first.headers.get("idempotency-key") == third.headers.get("idempotency-key")


def test_the_last_refusal_is_raised(drive, scripted, pauses):
    scripted.replies = [QUOTA]
    with pytest.raises(tailcut.QuotaExceeded) as caught:
        drive(scripted.url, lambda client: client.invoke("hello"), retries=1)
    assert len(scripted.seen) == 2
    assert caught.value.retry_after_s == 2.0


NEVER_AGAIN = [
    ("402 with Retry-After", problem(402, "tier-limit", headers={"retry-after": "1"}), tailcut.TierLimit),
    ("503 without Retry-After", problem(503, "not-ready"), tailcut.Overloaded),
    ("500", problem(500, "internal", headers={"retry-after": "1"}), tailcut.ApiError),
    ("502", problem(502, "internal"), tailcut.ApiError),
    ("504", problem(504, "timeout", headers={"retry-after": "1"}), tailcut.FunctionTimeout),
    (
        "503 of the function itself",
        problem(503, "overloaded", component="function", headers={"retry-after": "1"}),
        tailcut.Overloaded,
    ),
    ("503 that is no problem", json_reply({}, 503, **{"retry-after": "1"}), tailcut.Overloaded),
    ("503 for an hour", problem(503, "overloaded", headers={"retry-after": "3600"}), tailcut.Overloaded),
]


@pytest.mark.parametrize(("reply", "error"), [case[1:] for case in NEVER_AGAIN], ids=[case[0] for case in NEVER_AGAIN])
def test_what_may_have_been_executed_or_will_not_help_is_sent_once(drive, scripted, pauses, reply, error):
    scripted.replies = [reply]
    with pytest.raises(tailcut.ApiError) as caught:
        drive(scripted.url, lambda client: client.invoke("hello"))
    assert type(caught.value) is error
    assert len(scripted.seen) == 1
    assert pauses == []


@pytest.mark.parametrize("reply", [Reply(cut=True, body=b'{"x": 1, "y": 2}'), Reply(hang=True)])
def test_an_answer_that_does_not_come_is_not_asked_for_again(drive, scripted, pauses, reply):
    scripted.replies = [reply]
    with pytest.raises(tailcut.AnswerMissing, match="may have been executed"):
        drive(scripted.url, lambda client: client.invoke("hello"), timeout=timedelta(milliseconds=200))
    assert len(scripted.seen) == 1


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, reserved while the block runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_refused_connection_is_tried_again_and_then_said(drive, pauses):
    with closed_port() as port, pytest.raises(tailcut.ConnectionFailed, match=f"127.0.0.1:{port}"):
        drive(f"http://127.0.0.1:{port}", lambda client: client.invoke("hello"), retries=3)
    assert pauses == [0.2, 0.4, 0.8]


def test_a_server_that_comes_up_meanwhile_is_reached(drive, monkeypatch):
    """The first attempt meets a closed port; during the pause the server begins to listen."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        answering = threading.Thread(target=answer_once, args=(listener,))

        def pause(seconds: float) -> None:
            listener.listen()
            answering.start()

        async def pause_async(seconds: float) -> None:
            pause(seconds)

        monkeypatch.setattr("tailcut._client.time.sleep", pause)
        monkeypatch.setattr("tailcut._async_client.asyncio.sleep", pause_async)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert drive(url, lambda client: client.invoke("hello")) == "late"
        answering.join()


def answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n"late"')


def test_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    answer = _answers.Answer(503, {"retry-after": soon}, b"")
    assert 5 < (_answers.retry_after_s(answer) or 0) <= 10
    for bad in ("soon", "-1", "1.5", "", "٣"):
        assert _answers.retry_after_s(_answers.Answer(503, {"retry-after": bad}, b"")) is None


ERRORS = [
    (400, "bad-request", tailcut.BadRequest),
    (401, "unauthorized", tailcut.Unauthorized),
    (402, "tier-limit", tailcut.TierLimit),
    (403, "forbidden", tailcut.Forbidden),
    (404, "not-found", tailcut.NotFound),
    (409, "conflict", tailcut.Conflict),
    (413, "too-large", tailcut.BadRequest),
    (422, "invalid-arguments", tailcut.InvalidArguments),
    (429, "quota-exceeded", tailcut.QuotaExceeded),
    (431, "bad-request", tailcut.BadRequest),
    (500, "function-error", tailcut.FunctionError),
    (500, "function-crashed", tailcut.FunctionCrashed),
    (500, "memory-limit", tailcut.FunctionLimitExceeded),
    (500, "cpu-limit", tailcut.FunctionLimitExceeded),
    (500, "output-limit", tailcut.FunctionLimitExceeded),
    (500, "internal", tailcut.ApiError),
    (503, "overloaded", tailcut.Overloaded),
    (504, "timeout", tailcut.FunctionTimeout),
]


@pytest.mark.parametrize(("status", "name", "error"), ERRORS)
def test_each_problem_is_its_error_with_its_fields(drive, scripted, status, name, error):
    scripted.replies = [problem(status, name, component="function", traceback="Traceback …", used_ms=204)]
    with pytest.raises(tailcut.TailcutError) as caught:
        drive(scripted.url, lambda client: client.invoke("hello"))
    raised = caught.value
    assert type(raised) is error
    assert (raised.status, raised.name, raised.component, raised.request_id) == (status, name, "function", "req_1")
    assert raised.detail == f"the detail of {name}"
    assert raised.problem["used_ms"] == 204
    assert raised.traceback == "Traceback …"


def test_the_same_problem_from_the_control_plane(drive, scripted):
    scripted.replies = [problem(404, "not-found", component="control-plane")]
    with pytest.raises(tailcut.NotFound):
        drive(scripted.url, lambda client: client.function("nothing"))


NOT_TAILCUT = [
    Reply(200, b"<html>Welcome to nginx</html>", {"content-type": "text/html"}),
    Reply(404, b"<html>no such page</html>", {"content-type": "text/html"}),
    Reply(200, b"[1, 2]", {"content-type": "application/json"}),
    Reply(200, b"{", {"content-type": "application/json"}),
    Reply(200, b"[" * 100_000, {"content-type": "application/json"}),
    Reply(200, b'{"items": 3}', {"content-type": "application/json"}),
    Reply(200, b'{"items": [3]}', {"content-type": "application/json"}),
    Reply(200, b'{"items": [{"public": true}]}', {"content-type": "application/json"}),
    Reply(404, b'{"detail": "Not Found"}', {"content-type": "application/json"}),
    Reply(302, b"", {"location": "http://127.0.0.1:1/elsewhere"}),
    Reply(500, b"\xff\xfe", {"content-type": PROBLEM}),
    Reply(200, b"", {}),
]


@pytest.mark.parametrize("reply", NOT_TAILCUT)
def test_another_server_is_recognised_as_that(drive, scripted, reply):
    scripted.replies = [reply]
    with pytest.raises(tailcut.AnswerInvalid):
        drive(scripted.url, lambda client: client.functions())
    assert len(scripted.seen) == 1  # a redirect is not followed: the key stays here


ANSWERS = [
    (json_reply({"a": 1}), {"a": 1}),
    (json_reply(None), None),
    (Reply(204, b"", {}), None),
    (Reply(200, b"text", {"content-type": "text/plain; charset=utf-8"}), "text"),
    (Reply(200, b"\x00\xff", {"content-type": "image/png"}), b"\x00\xff"),
    (Reply(200, b'"x"', {"content-type": "application/vnd.x+json"}), "x"),
]


@pytest.mark.parametrize(("reply", "expected"), ANSWERS)
def test_invoke_returns_the_functions_value(drive, scripted, reply, expected):
    scripted.replies = [reply]
    assert drive(scripted.url, lambda client: client.invoke("hello@canary", name="Ada", function=3)) == expected
    (seen,) = scripted.seen
    assert (seen.method, seen.path) == ("POST", "/t/hello@canary")
    assert json.loads(seen.body) == {"name": "Ada", "function": 3}
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_call_returns_any_status_and_what_it_cost(drive, scripted):
    headers = {
        "content-type": "text/plain",
        "Tailcut-Request-Id": "r1",
        "Tailcut-Version": "ver_1",
        "Tailcut-Start": "warm",
        "Tailcut-Cpu-Us": "1500",
        "Tailcut-Queue-Us": "20",
        "Tailcut-Memory-Bytes": "4096",
    }
    scripted.replies = [Reply(418, b"teapot", headers)]
    answer = drive(
        scripted.url,
        lambda client: client.call(
            "tea", method="put", path="pots/a b", params={"q": "ä&"}, headers={"X-Y": "z"}, content=b"leaves"
        ),
    )
    assert (answer.status, answer.text, answer.start) == (418, "teapot", "warm")
    assert (answer.cpu, answer.queue) == (timedelta(microseconds=1500), timedelta(microseconds=20))
    assert (answer.request_id, answer.version, answer.memory_bytes) == ("r1", "ver_1", 4096)
    (seen,) = scripted.seen
    assert (seen.method, seen.path) == ("PUT", "/t/tea/pots/a%20b?q=%C3%A4%26")
    assert (seen.headers["x-y"], seen.body) == ("z", b"leaves")


def test_where_functions_answer_is_asked_once(drive, scripted):
    scripted.routes = {
        "/v1/runtime": [
            json_reply({"python": "3.13", "platform": "p", "gateway_url": scripted.url + "/", "limits": {}})
        ],
        "/v1/tenant": [json_reply({"id": "tnt_1", "name": "acme"})],
        "/acme/hello": [json_reply(1)],
    }

    def twice(client: Any) -> Any:
        if isinstance(client, tailcut.Client):
            return [client.invoke("hello"), client.invoke("hello")]

        async def both() -> list[Any]:
            return [await client.invoke("hello"), await client.invoke("hello")]

        return both()

    assert drive(scripted.url, twice, gateway_url=None, tenant=None) == [1, 1]
    assert [seen.path for seen in scripted.seen] == ["/v1/runtime", "/v1/tenant", "/acme/hello", "/acme/hello"]


def test_names_cannot_leave_their_place_in_the_path(drive, scripted):
    scripted.replies = [json_reply(FUNCTION)]
    drive(scripted.url, lambda client: client.function("../keys?x=1#y"))
    assert scripted.seen[0].path == "/v1/functions/..%2Fkeys%3Fx%3D1%23y"


def test_all_pages_are_read(drive, scripted):
    scripted.replies = [
        json_reply({"items": [{**FUNCTION, "name": "a"}], "next_cursor": "c 1"}),
        json_reply({"items": [{**FUNCTION, "name": "b"}], "next_cursor": None}),
    ]

    def everything(client: Any) -> Any:
        if isinstance(client, tailcut.Client):
            return [entry.name for entry in client.all_functions()]

        async def collect() -> list[str]:
            return [entry.name async for entry in client.all_functions()]

        return collect()

    assert drive(scripted.url, everything) == ["a", "b"]
    assert [seen.path for seen in scripted.seen] == ["/v1/functions?limit=50", "/v1/functions?limit=50&cursor=c+1"]


RUNTIME = {"python": "3.13", "platform": "x86_64-manylinux_2_28", "limits": {}}
UPLOAD = {
    "function": "hello",
    "version": "ver_1",
    "sha256": "0" * 64,
    "alias": "live",
    "status": "preparing",
    "url": "http://g/t/hello",
    "public": False,
}
VERSION = {"id": "ver_1", "function": "hello", "sha256": "0" * 64, "status": "preparing", "handler": "hello:hello"}


def deployable(scripted: Scripted, tmp_path: Any, *versions: Reply) -> Any:
    (tmp_path / "hello.py").write_text("def hello(): ...\n")
    scripted.routes = {
        "/v1/runtime": [json_reply({**RUNTIME, "gateway_url": scripted.url})],
        "/v1/functions/hello/versions": [json_reply(UPLOAD, 201)],
        "/v1/functions/hello/versions/ver_1": list(versions),
    }
    return tmp_path / "hello.py"


def test_deploy_waits_until_a_worker_is_ready(drive, scripted, tmp_path):
    preparing, ready = json_reply(VERSION), json_reply({**VERSION, "status": "ready", "style": "typed"})
    path = deployable(scripted, tmp_path, preparing, preparing, ready)
    scripted.routes["/v1/functions/hello/versions"] = [OVERLOADED_NOW, json_reply(UPLOAD, 201)]
    deployment = drive(scripted.url, lambda client: client.deploy(path, public=True, alias="canary"))
    assert (deployment.status, deployment.style, deployment.handler) == ("ready", "typed", "hello:hello")
    uploads = [seen for seen in scripted.seen if seen.method == "POST"]
    assert len(uploads) == 2
    assert uploads[0].headers["idempotency-key"] == uploads[1].headers["idempotency-key"]
    for upload in uploads:  # the second attempt sends the whole file again
        assert b'name="public"\r\n\r\ntrue' in upload.body
        assert b'name="alias"\r\n\r\ncanary' in upload.body
        assert b'name="bundle"; filename="bundle.zip"' in upload.body
        assert b"PK\x05\x06" in upload.body


OVERLOADED_NOW = problem(503, "overloaded", component="control-plane", headers={"retry-after": "0"})


def test_deploy_reports_why_the_version_did_not_start(drive, scripted, tmp_path):
    error = {"type": "ModuleNotFoundError", "message": "No module named 'nope'", "traceback": "Traceback: nope"}
    path = deployable(scripted, tmp_path, json_reply({**VERSION, "status": "failed", "error": error}))
    with pytest.raises(tailcut.StartFailed, match="No module named 'nope'") as caught:
        drive(scripted.url, lambda client: client.deploy(path))
    assert (caught.value.cause, caught.value.traceback) == ("ModuleNotFoundError", "Traceback: nope")
    assert (caught.value.function, caught.value.version) == ("hello", "ver_1")


GATEWAY_STATES = [
    (Reply(200, b"ok", {}), "is ready but has not reported"),
    (problem(503, "not-ready"), "answers 503 to /-/readyz"),
    (Reply(cut=True, body=b"0123456789"), "does not answer"),
]


@pytest.mark.parametrize(("probe", "hint"), GATEWAY_STATES)
def test_deploy_says_which_part_to_look_at_when_nobody_reports(drive, scripted, tmp_path, probe, hint):
    path = deployable(scripted, tmp_path, json_reply(VERSION))
    scripted.routes["/-/readyz"] = [probe]
    with pytest.raises(tailcut.StartTimeout) as caught:
        drive(scripted.url, lambda client: client.deploy(path, ready_timeout=timedelta(milliseconds=50)))
    assert hint in (caught.value.hint or "")


def test_nothing_is_uploaded_when_the_project_is_wrong(drive, scripted, tmp_path):
    (tmp_path / "two.py").write_text("def a(): ...\ndef b(): ...\n")
    with pytest.raises(tailcut.ProjectError):
        drive(scripted.url, lambda client: client.deploy(tmp_path / "two.py"))
    assert scripted.seen == []


def test_both_clients_have_the_same_operations():
    def operations(client: type) -> dict[str, list[str]]:
        renamed = {"aclose": "close"}
        return {
            renamed.get(name, name): list(inspect.signature(member).parameters.values())[1:]
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert operations(tailcut.Client) == operations(tailcut.AsyncClient)


def test_the_key_is_masked(clean_environment):
    client = tailcut.Client("http://127.0.0.1:1", KEY)
    assert KEY not in repr(client)
    assert KEY[8:] not in repr(vars(client))
    new = tailcut.NewKey(tailcut.Key("key_1", None, ("read",)), KEY)
    assert KEY not in repr(new)


def test_waits_are_bounded_by_default(clean_environment, scripted):
    with tailcut.Client(scripted.url, KEY, gateway_url=scripted.url, tenant="t") as client:
        assert client._timeout > timedelta()
    assert _transport.RETRY_AFTER_S_MAX < 60


@pytest.mark.parametrize(
    "server", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "http://x?y=1", "javascript:1"]
)
def test_an_address_that_is_none(clean_environment, server):
    with pytest.raises(tailcut.ConfigurationError):
        tailcut.Client(server, KEY)


@pytest.mark.parametrize("key", ["", " ", "tck_ä", "tck_a\r\nX: y", "a b"])
def test_a_key_that_is_none_and_is_not_shown(clean_environment, key):
    with pytest.raises(tailcut.ConfigurationError) as caught:
        tailcut.Client("http://127.0.0.1:1", key)
    assert not key.strip() or key not in str(caught.value)


def test_a_time_without_zone_is_refused(drive, scripted):
    naive = datetime.fromisoformat("2030-01-01T00:00:00")
    with pytest.raises(tailcut.ConfigurationError, match="time zone"):
        drive(scripted.url, lambda client: client.create_key(scopes=("read",), expires_at=naive))


def test_the_asynchronous_client_leaves_the_loop_free_while_it_packs(
    scripted, tmp_path, clean_environment, monkeypatch
):
    path = deployable(scripted, tmp_path, json_reply({**VERSION, "status": "ready"}))
    monkeypatch.setattr("tailcut._deploy._pack", slowly(tailcut._deploy._pack))

    async def run() -> int:
        ticks = 0
        async with tailcut.AsyncClient(scripted.url, KEY) as client:
            deploying = asyncio.create_task(client.deploy(path))
            while not deploying.done():
                await asyncio.sleep(0.005)
                ticks += 1
            await deploying
        return ticks

    assert asyncio.run(run()) >= 10


def slowly(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        time.sleep(0.3)
        return function(*arguments)

    return run
