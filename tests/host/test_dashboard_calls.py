"""The dashboard with a gateway behind it: deploy, call, secrets of a worker, and its lines in the log."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.control_plane.dashboard_browser import Browser, check_policy
from tests.control_plane.running import eventually
from tests.control_plane.test_dashboard_functions import deploy
from tests.support.server import Server

SPEAKER = """\
import os

def speak(word: str, times: int = 1) -> dict:
    print("speaking", word)
    if times < 0:
        raise ValueError(f"times is {times}")
    return {"said": word * times, "token": os.environ.get("TOKEN", "none")}
"""


@pytest.fixture
def browser(server: Server) -> Iterator[Browser]:
    """Signed in as an owner of the development tenant, as `tailcut-server sign-in` does it."""
    operator = (server.data_dir / "operator-token").read_text().strip()
    with httpx.Client(base_url=server.control_plane_url, headers={"Authorization": f"Bearer {operator}"}) as client:
        tenant = next(one for one in client.get("/v1/tenants").json()["items"] if one["name"] == server.tenant)
        made = client.post(f"/v1/tenants/{tenant['id']}/sign-in-links", json={"email": "calls@example.com"})
    made_browser = Browser(server.control_plane_url)
    made_browser.open(made.json()["url"])
    assert "Sign out" in made_browser.submit("/sign-in/link").text
    yield made_browser
    made_browser.http.close()


def test_from_pasted_code_to_an_answer_its_lines_and_its_secret(server: Server, browser: Browser) -> None:
    deploy(browser, "speaker", SPEAKER)
    server.wait_for(lambda: "Call it" in browser.open("/functions/speaker").text, what="the version ready")
    browser.open("/functions/speaker/try")
    page = browser.submit("/functions/speaker/try", arg_word="ha", arg_times="2", target="live", way="")
    check_policy(page)
    assert "200 OK" in page.text
    assert "&#34;said&#34;: &#34;haha&#34;" in page.text
    assert "tck_" not in page.text
    wrong = browser.submit("/functions/speaker/try", arg_word="ha", arg_times="-1", target="live", way="")
    assert "500 Internal Server Error" in wrong.text
    assert "ValueError: times is -1" in wrong.text
    assert "line 6" in wrong.text  # the owner's traceback
    # From the answer to its lines.
    request = re.search(r"/logs\?request_id=([0-9a-f]{32})", wrong.text)
    assert request
    path = f"/logs?request_id={request[1]}"
    assert eventually(lambda: "speaking ha" in browser.open(path).text)
    lines = server.api().get("/v1/logs", params={"function": "speaker"}).json()["items"]
    assert {line["text"] for line in lines} >= {"speaking ha"}
    # A secret reaches the workers without a deploy, and leaves them again.
    assert server.invoke("speaker", word="x").json()["token"] == "none"
    browser.open("/functions/speaker/secrets")
    browser.submit("/functions/speaker/secrets", secret="TOKEN", value="s3cret")
    assert eventually(lambda: server.invoke("speaker", word="x").json()["token"] == "s3cret")
    assert server.api().delete("/v1/functions/speaker/secrets/TOKEN").status_code == 204
    assert eventually(lambda: server.invoke("speaker", word="x").json()["token"] == "none")
    assert server.api().delete("/v1/functions/speaker").status_code == 204


def test_the_dashboards_key_only_invokes(server: Server, browser: Browser) -> None:
    """It is in the table, opens nothing of the control plane, and is in no list."""
    assert server.api().get("/v1/keys").json()["items"]
    assert "key_dashboard" not in server.api().get("/v1/keys").text
    table = json.loads(next((server.data_dir / "gateway").glob("table.json")).read_text())
    own = [key for key in table["keys"] if key["id"] == "key_dashboard"]
    assert own
    assert {tuple(key["scopes"]) for key in own} == {("invoke",)}
    assert len({key["sha256"] for key in own}) == len(table["tenants"])


def command_environment(server: Server) -> dict[str, str]:
    """Of somebody whose profile is empty."""
    paths = {"PATH": "/usr/bin", "HOME": "/nowhere", "PYTHONPATH": ":".join(sys.path)}
    return {"TAILCUT_SERVER": server.control_plane_url, "TAILCUT_KEY": server.key, **paths}


def test_tailcut_logs_follows(server: Server) -> None:
    server.deploy("teller", "def handler(word: str):\n    print('told', word)\n    return word\n")
    env = {
        "TAILCUT_SERVER": server.control_plane_url,
        "TAILCUT_KEY": server.key,
        "PATH": "/usr/bin",
        "HOME": "/nowhere",
    }
    command = [sys.executable, "-m", "tailcut", "logs", "teller"]
    follower = subprocess.Popen([*command, "-f", "--json"], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert server.invoke("teller", word="one").status_code == 200
        assert follower.stdout is not None
        line = json.loads(follower.stdout.readline())
        assert (line["text"], line["function"]) == ("told one", "teller")
        assert server.invoke("teller", word="two").status_code == 200
        assert json.loads(follower.stdout.readline())["text"] == "told two"
    finally:
        follower.terminate()
        follower.wait()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.stdout.splitlines()[-1].endswith("told two"), done.stderr
    assert server.api().delete("/v1/functions/teller").status_code == 204


def test_tailcut_dev_deploys_on_save_to_an_alias_of_its_own(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "sketch.py"
    file.write_text("def sketch() -> str:\n    print('one printed')\n    return 'one'\n")
    env = command_environment(server)
    program = subprocess.Popen(
        [sys.executable, "-m", "tailcut", "dev", str(file), "--json"], stdout=subprocess.PIPE, text=True, env=env
    )
    try:
        assert program.stdout is not None
        assert json.loads(program.stdout.readline())["alias"] == "dev"
        assert server.invoke("sketch@dev").json() == "one"
        assert json.loads(program.stdout.readline())["text"] == "one printed"
        file.write_text("def sketch() -> str:\n    return 'two'\n")
        assert json.loads(program.stdout.readline())["function"] == "sketch"
        assert server.invoke("sketch@dev").json() == "two"
        assert server.invoke("sketch").status_code == 404  # live is nobody's but yours to move
    finally:
        program.terminate()
        program.wait()
    assert server.api().delete("/v1/functions/sketch").status_code == 204


def test_tailcut_secrets_takes_the_value_from_standard_input(server: Server) -> None:
    server.deploy("hidden", "import os\ndef handler() -> str:\n    return os.environ.get('TOKEN', 'none')\n")
    command = [sys.executable, "-m", "tailcut", "secrets"]
    env = command_environment(server)

    def run(*arguments: str, given: str = "") -> str:
        done = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "s3cret" not in run("set", "hidden", "TOKEN", given="s3cret\n")
    assert eventually(lambda: server.invoke("hidden").json() == "s3cret")
    listed = run("list", "hidden", "--json")
    assert [each["name"] for each in json.loads(listed)["items"]] == ["TOKEN"]
    assert "s3cret" not in listed
    run("delete", "hidden", "TOKEN")
    assert eventually(lambda: server.invoke("hidden").json() == "none")
    assert server.api().delete("/v1/functions/hidden").status_code == 204
