"""``tailcut …`` as a process: JSON for scripts, documented exit codes, no traceback, no colour without a terminal."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.conftest import Cli
from tests.sdk.scripted import Reply, Scripted, json_reply, problem

KEY = "tck_0123456789abcdefghijklmnopqrstuvwxyz"
VERSION = {
    "id": "ver_1",
    "function": "hello",
    "sha256": "a" * 64,
    "status": "ready",
    "style": "typed",
    "handler": "hello:hello",
    "created_at": "2026-01-01T00:00:00+00:00",
    "error": None,
}
FUNCTION = {"name": "hello", "public": False, "url": "http://g/acme/hello", "aliases": {"live": "ver_1"}}


@pytest.fixture
def control_plane(scripted: Scripted) -> Scripted:
    """Answers the management operations of one function."""
    runtime = {"python": "3.13", "platform": "x86_64-manylinux_2_28", "gateway_url": scripted.url, "limits": {}}
    upload = {
        "function": "hello",
        "version": "ver_1",
        "sha256": "a" * 64,
        "alias": "live",
        "status": "preparing",
        "url": f"{scripted.url}/acme/hello",
        "public": False,
    }
    key = {"id": "key_1", "name": "ci", "scopes": ["deploy"], "last_four": "wxyz", "created_at": VERSION["created_at"]}
    key["last_used_at"] = "2026-11-23T12:00:00Z"
    alias = {"function": "hello", "alias": "live", "version": "ver_0"}
    scripted.routes = {
        "/v1/runtime": [json_reply(runtime)],
        "/v1/tenant": [json_reply({"id": "tnt_1", "name": "acme"})],
        "/v1/functions": [json_reply({"items": [FUNCTION], "next_cursor": None})],
        "/v1/functions/hello": [json_reply(FUNCTION)],
        "/v1/functions/hello/versions": [json_reply(upload, 201)],
        "/v1/functions/hello/versions/ver_1": [json_reply(VERSION)],
        "/v1/functions/hello/rollback": [json_reply(alias)],
        "/v1/functions/hello/aliases/canary": [json_reply({**alias, "alias": "canary"})],
        "/v1/keys": [json_reply({"items": [key], "next_cursor": None})],
        "/v1/keys/key_1": [Reply(204, b"", {})],
        "/acme/hello": [json_reply({"message": "Hello, Ada!"})],
    }
    return scripted


@pytest.fixture
def logged_in(control_plane: Scripted, monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> Scripted:
    monkeypatch.setenv("TAILCUT_SERVER", control_plane.url)
    monkeypatch.setenv("TAILCUT_KEY", KEY)
    (clean_environment / "hello.py").write_text("def hello(name: str) -> dict: ...\n")
    return control_plane


def test_deploy_prints_one_object(cli: Cli, logged_in):
    done = cli("deploy", "hello.py", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["function"] == "hello"
    assert document["version"] == "ver_1"
    assert document["alias"] == "live"
    assert document["url"] == f"{logged_in.url}/acme/hello"
    assert document["status"] == "ready"
    assert document["handler"] == "hello:hello"
    assert set(document) == {
        *("function", "version", "alias", "url", "sha256", "status", "style", "handler", "public", "bundle_bytes"),
        *("files", "lock", "duration_ms", "state", "state_reason"),
    }
    assert done.stderr == ""


def test_deploy_ends_with_the_url_and_a_line_to_paste(cli: Cli, logged_in):
    done = cli("deploy", "hello.py")
    url, curl = done.stdout.splitlines()[-2:]
    assert url == f"{logged_in.url}/acme/hello"
    shell = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(shell.stdout) == {"message": "Hello, Ada!"}
    called = logged_in.seen[-1]
    assert called.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(called.body) == {"name": "text"}
    assert KEY not in done.stdout + done.stderr


def test_what_the_other_commands_print_as_json(cli: Cli, logged_in):
    def run(*arguments: str) -> object:
        done = cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    versions = {"/v1/functions/hello/versions": [json_reply({"items": [VERSION], "next_cursor": None})]}
    logged_in.routes |= versions
    assert run("functions") == {"items": [{**FUNCTION, "created_at": None}]}
    (version,) = run("versions", "hello")["items"]
    assert (version["version"], version["status"], version["aliases"]) == ("ver_1", "ready", ["live"])
    assert run("rollback", "hello") == {"function": "hello", "alias": "live", "version": "ver_0"}
    assert run("alias", "hello", "canary", "ver_0") == {"function": "hello", "alias": "canary", "version": "ver_0"}
    logged_in.routes["/v1/functions/hello/aliases/canary"] = [Reply(204, b"", {})]
    assert run("alias", "hello", "canary", "--delete") == {"function": "hello", "alias": "canary", "deleted": True}
    (key,) = run("keys")["items"]
    assert (key["id"], key["scopes"], key["last_four"]) == ("key_1", ["deploy"], "wxyz")
    assert key["last_used_at"] == "2026-11-23T12:00:00+00:00"
    logged_in.routes["/v1/keys"] = [json_reply({"id": "key_2", "scopes": ["invoke"], "token": "tck_new"}, 201)]
    created = run("keys", "create", "--scope", "invoke", "--days", "3")
    assert (created["id"], created["token"]) == ("key_2", "tck_new")
    assert run("keys", "revoke", "key_1") == {"key": "key_1", "revoked": True}
    answer = run("invoke", "hello", "name=Ada", "count:=3")
    assert (answer["status"], answer["body"]) == (200, {"message": "Hello, Ada!"})
    assert json.loads(logged_in.seen[-1].body) == {"name": "Ada", "count": 3}
    assert run("open", "hello") == {"url": FUNCTION["url"]}
    logged_in.routes["/v1/functions/hello"] = [Reply(204, b"", {})]
    assert run("delete", "hello", "--yes") == {"function": "hello", "deleted": True}


def test_what_a_call_cost_is_in_the_json_also_when_it_is_nothing(cli: Cli, logged_in):
    cost = {"Tailcut-Cpu-Us": "0", "Tailcut-Queue-Us": "12", "Tailcut-Memory-Bytes": "4096", "Tailcut-Start": "warm"}
    logged_in.routes["/acme/hello"] = [json_reply(1, **cost)]
    answer = json.loads(cli("invoke", "hello", "--json").stdout)
    assert (answer["cpu_us"], answer["queue_us"], answer["memory_bytes"], answer["start"]) == (0, 12, 4096, "warm")


def test_a_limit_is_said_with_its_numbers(cli: Cli, logged_in):
    logged_in.routes["/acme/hello"] = [problem(504, "timeout", limit="wall-clock", allowed_ms=1000, used_ms=1003)]
    said = cli("invoke", "hello").stderr
    assert "limit wall-clock, allowed_ms 1000, used_ms 1003" in said


def test_the_exception_of_the_function_is_said_once(cli: Cli, logged_in):
    raised = {"type": "ValueError", "message": "the reason"}
    reply = problem(500, "function-error", component="function", error=raised, title="It raised", detail="It raised.")
    logged_in.routes["/acme/hello"] = [reply]
    said = cli("invoke", "hello").stderr
    assert "error: It raised: ValueError: the reason\n" in said
    assert said.count("It raised") == 1
    assert said.count("the reason") == 1


def test_lists_for_cut_and_awk(cli: Cli, logged_in):
    done = cli("functions")
    assert done.stdout.split("\t")[:3] == ["hello", "private", "live → ver_1"]


EXIT_CODES = [
    ("function error", problem(500, "function-error", component="function", traceback="Traceback: boom"), 1, "boom"),
    ("crash", problem(500, "function-crashed", component="function"), 1, "function crashed"),
    ("timeout", problem(504, "timeout"), 1, "timeout"),
    (
        "bad arguments",
        problem(422, "invalid-arguments", errors=[{"name": "n", "message": "is no number"}]),
        2,
        "is no number",
    ),
    ("unauthorized", problem(401, "unauthorized"), 3, "tailcut login"),
    ("forbidden", problem(403, "forbidden"), 3, "scope"),
    ("not found", problem(404, "not-found"), 4, "not found"),
    ("402", problem(402, "tier-limit", upgrade_url="https://x.example/up"), 7, "https://x.example/up"),
    ("429", problem(429, "quota-exceeded", headers={"retry-after": "100"}), 7, "try again in 100 s"),
    ("503", problem(503, "overloaded", headers={"retry-after": "100"}), 7, "not executed"),
]


@pytest.mark.parametrize(("reply", "code", "said"), [c[1:] for c in EXIT_CODES], ids=[c[0] for c in EXIT_CODES])
def test_each_kind_of_failure_has_its_exit_code(cli: Cli, logged_in, reply, code, said):
    logged_in.routes["/acme/hello"] = [reply]
    done = cli("invoke", "hello")
    assert done.returncode == code
    assert done.stdout == ""
    assert said in done.stderr
    assert "req_1" in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr
    assert "\x1b" not in done.stderr
    assert cli("invoke", "hello", "--json").returncode == code


def test_a_version_that_does_not_start_shows_its_traceback(cli: Cli, logged_in):
    error = {
        "type": "ImportError",
        "message": "no \x1b[31mx",
        "traceback": "Traceback (most recent call last):\n  ImportError",
    }
    logged_in.routes["/v1/functions/hello/versions/ver_1"] = [
        json_reply({**VERSION, "status": "failed", "error": error})
    ]
    done = cli("deploy", "hello.py")
    assert done.returncode == 6
    assert "Traceback (most recent call last):\n  ImportError" in done.stderr
    assert "\x1b" not in done.stderr
    shown = json.loads(cli("deploy", "hello.py", "--json").stderr)["error"]
    assert (shown["kind"], shown["exit_code"], shown["traceback"]) == ("StartFailed", 6, error["traceback"])


def test_nobody_reports_a_version(cli: Cli, logged_in):
    logged_in.routes["/v1/functions/hello/versions/ver_1"] = [json_reply({**VERSION, "status": "preparing"})]
    done = cli("deploy", "hello.py", "--wait", "100ms")
    assert done.returncode == 6
    assert "gateway" in done.stderr


def test_requirements_that_cannot_be_met(cli: Cli, logged_in, clean_environment):
    folder = clean_environment / "hello"
    folder.mkdir()
    (folder / "main.py").write_text("def hello(): ...\n")
    (folder / "requirements.txt").write_text("--no-index\nno-such-package-here\n")
    done = cli("deploy", "hello")
    assert done.returncode == 5
    assert "no-such-package-here" in done.stderr
    shown = json.loads(cli("deploy", "hello", "--json").stderr)["error"]
    assert "no-such-package-here" in shown["output"]


def test_the_wrong_server(cli: Cli, logged_in):
    logged_in.routes["/v1/functions"] = [Reply(200, b"<html>nginx</html>", {"content-type": "text/html"})]
    done = cli("functions")
    assert done.returncode == 8
    assert "8080 is the gateway" in done.stderr


def test_no_server(cli: Cli):
    done = cli("functions", "--server", "http://127.0.0.1:1", "--key", KEY)
    assert done.returncode == 8
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("deploy", "nothing-here"), "nothing at"),
        (("deploy", "hello.py", "--timeout", "3 parsecs"), "500ms"),
        (("deploy", "hello.py", "--timeout", "1h"), "500ms"),
        (("deploy", "hello.py", "--concurrency", "0"), "1 to 256"),
        (("deploy", "hello.py", "--name", "Hello!"), "lower-case"),
        (("deploy", "hello.py", "--handler", "hello"), "module:function"),
        (("deploy", "hello.py", "--memory", "128 elephants"), "MiB"),
        (("deploy", "hello.py", "--cpu", "1 parsec"), "ms"),
        (("invoke", "hello", "name"), "name=text"),
        (("invoke", "hello", "n:=x"), "no JSON"),
        (("invoke", "hello", "a=1", "--data", "x"), "one body"),
        (("invoke", "hello", "--data", "@nothing-here"), "cannot read"),
        (("invoke", "hello", "-H", "no colon"), "Name: text"),
        (("alias", "hello", "canary"), "--delete"),
        (("delete", "hello"), "--yes"),
        (("keys", "create", "--scope", "everything"), "deploy, invoke, read, admin"),
        (("frobnicate",), "No such command"),
    ],
)
def test_what_the_user_got_wrong_is_2_and_said(cli: Cli, logged_in, arguments, said):
    done = cli(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [seen for seen in logged_in.seen if seen.method != "GET"] == []


def test_without_a_key_it_says_where_one_can_be(cli: Cli):
    done = cli("functions")
    assert done.returncode == 3
    for place in ("tailcut login", "--key", "TAILCUT_KEY", "var/dev-credentials.json"):
        assert place in done.stderr
    document = json.loads(cli("functions", "--json").stderr)
    assert (document["error"]["kind"], document["error"]["exit_code"]) == ("ConfigurationError", 3)


def write_profile(server: str, key: str) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "tailcut" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'server = "{server}"\nkey = "{key}"\ntenant = "acme"\n')
    return path


def write_development_file(folder: Path, server: str, key: str) -> None:
    (folder / "var").mkdir()
    document = {
        "tenant": "acme",
        "key": key,
        "gateway_url": server,
        "control_plane_url": server,
        "dashboard_url": server,
    }
    (folder / "var" / "dev-credentials.json").write_text(json.dumps(document))


def test_the_order_of_options_environment_profile_and_development_file(cli: Cli, control_plane, clean_environment):
    def used(*arguments: str, **environment: str) -> str:
        done = cli("functions", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return control_plane.seen[-1].headers["authorization"].removeprefix("Bearer tck_")

    url = control_plane.url
    write_development_file(clean_environment, url, "tck_file")
    said = cli("functions").stderr
    assert "var/dev-credentials.json" in said
    assert "acme" in said
    assert used() == "file"
    write_profile(url, "tck_profile")
    assert used() == "profile"
    assert "dev-credentials" not in cli("functions").stderr
    assert used(TAILCUT_KEY="tck_environment") == "environment"
    assert used("--key", "tck_option", TAILCUT_KEY="tck_environment") == "option"


def test_a_stored_key_is_not_sent_to_another_server(cli: Cli, control_plane, clean_environment):
    write_profile("http://127.0.0.1:1", "tck_profile")
    write_development_file(clean_environment, "http://127.0.0.1:2", "tck_file")
    done = cli("functions", "--server", control_plane.url)
    assert done.returncode == 3
    assert control_plane.seen == []
    assert cli("functions", TAILCUT_SERVER=control_plane.url).returncode == 3
    assert control_plane.seen == []


def test_login_keeps_the_key_for_the_user_alone(cli: Cli, control_plane):
    done = cli("login", "--server", control_plane.url + "/", "--key", "-", stdin=KEY + "\n")
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "tailcut" / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cli("functions").returncode == 0
    assert control_plane.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    assert cli("login", "--show-key").stdout == KEY + "\n"


def test_a_key_that_does_not_work_is_not_kept(cli: Cli, control_plane):
    control_plane.routes["/v1/tenant"] = [problem(401, "unauthorized")]
    done = cli("login", "--server", control_plane.url, "--key", KEY)
    assert done.returncode == 3
    assert not (Path(os.environ["XDG_CONFIG_HOME"]) / "tailcut").exists()


@pytest.mark.parametrize(
    "arguments", [("login",), ("login", "--server", "http://127.0.0.1:1"), ("login", "--key", "-")]
)
def test_login_without_a_terminal_asks_nothing(cli: Cli, arguments):
    done = cli(*arguments)
    assert done.returncode == 3
    assert "--" in done.stderr


def test_a_broken_profile_is_said(cli: Cli):
    write_profile("http://x", 'a"b')
    done = cli("functions")
    assert done.returncode == 3
    assert "config.toml" in done.stderr


def test_a_key_over_plain_http_is_warned_about(cli: Cli):
    done = cli("functions", "--server", "http://no-such-host.invalid:1", "--key", KEY)
    assert "not https" in done.stderr


def test_init_writes_a_function_that_can_be_deployed(cli: Cli, logged_in, clean_environment):
    done = cli("init", "my_first", "--json")
    assert json.loads(done.stdout) == {"folder": "my_first", "files": ["main.py", "tailcut.toml"]}
    names: dict[str, object] = {}
    exec((clean_environment / "my_first" / "main.py").read_text(), names)
    assert names["hello"](name="Ada") == {"message": "Hello, Ada!"}  # type: ignore[operator]
    logged_in.routes["/v1/functions/my-first/versions"] = logged_in.routes["/v1/functions/hello/versions"]
    assert cli("deploy", "my_first", "--json").returncode == 0
    again = cli("init", "my_first")
    assert again.returncode == 2
    assert "not overwritten" in again.stderr


def test_an_answers_bytes_are_printed_as_they_are(cli: Cli, logged_in, clean_environment):
    content = bytes(range(256))
    logged_in.routes["/acme/hello"] = [Reply(200, content, {"content-type": "image/png"})]
    (clean_environment / "in.bin").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "tailcut", "invoke", "hello", "-d", "@in.bin"], capture_output=True, timeout=60
    )
    assert done.stdout == content
    assert logged_in.seen[-1].body == content
    assert cli("invoke", "hello", "-o", "out.bin").stdout == ""
    assert (clean_environment / "out.bin").read_bytes() == content


def on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and screen of a command that believes to be on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tailcut", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
    )
    os.close(theirs)
    screen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not chunk:
            break
        screen += chunk
    os.close(ours)
    return process.wait(timeout=60), screen.decode()


def test_on_a_terminal_there_are_steps_and_colours(logged_in):
    code, screen = on_a_terminal("deploy", "hello.py")
    assert code == 0
    for step in ("Pack", "Upload", "Start", "a worker of ver_1 is ready"):
        assert step in screen
    assert "\x1b[" in screen
    assert "\x1b[3" not in on_a_terminal("functions", NO_COLOR="1")[1]


def test_binary_is_not_poured_on_a_terminal(logged_in):
    logged_in.routes["/acme/hello"] = [Reply(200, b"\0\x1b[31m", {"content-type": "image/png"})]
    code, screen = on_a_terminal("invoke", "hello")
    assert code == 1
    assert "--output" in screen
    assert "\0" not in screen


def test_ctrl_c_is_130_without_a_traceback(logged_in):
    logged_in.routes["/acme/hello"] = [Reply(hang=True)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tailcut", "invoke", "hello"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what it puts into the background with SIGINT ignored, and this suite may be that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (it sets a signal, no more)
    )
    while not any(seen.path == "/acme/hello" for seen in logged_in.seen):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
