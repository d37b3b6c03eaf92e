"""The examples, deployed with ``--state fresh`` on a whole running server, called over and over."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tailcut
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROUNDS = 300


def deploy(server: Any, path: Path, state: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tailcut", "deploy", str(path), "--state", state, "--json"],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "TAILCUT_SERVER": server.control_plane_url, "TAILCUT_KEY": server.key},
    )


@pytest.fixture
def client(server: Any) -> Any:
    with tailcut.Client(server.control_plane_url, server.key) as made:
        yield made


def deployed(server: Any, folder: Path, state: str = "fresh") -> None:
    done = deploy(server, folder, state)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ready"


def test_the_state_is_chosen_per_function(server: Any, client: Any, tmp_path: Path) -> None:
    for state, expected in (("fresh", {1}), ("forked", {1}), ("warm", set(range(1, 21)))):
        folder = tmp_path / f"counter-{state}"
        folder.mkdir()
        (folder / "main.py").write_text("n = 0\ndef handler() -> int:\n    global n\n    n += 1\n    return n\n")
        deployed(server, folder, state)
        assert {client.invoke(f"counter-{state}") for _ in range(20)} == expected


def test_a_worker_that_ends_itself_is_replaced_and_no_call_fails(server: Any, client: Any, tmp_path: Path) -> None:
    folder = tmp_path / "leaver"
    folder.mkdir()
    (folder / "main.py").write_text(
        "import threading, time\nn = 0\ndef handler() -> int:\n    global n\n    n += 1\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    return n\n"
    )
    deployed(server, folder)
    assert [client.invoke("leaver") for _ in range(20)] == [1] * 20


def test_what_cannot_be_fresh_runs_forked_and_the_deploy_says_why(server: Any, client: Any, tmp_path: Path) -> None:
    folder = tmp_path / "threaded"
    folder.mkdir()
    (folder / "main.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "n = 0\ndef handler() -> int:\n    global n\n    n += 1\n    return n\n"
    )
    done = deploy(server, folder, "fresh")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["state"] == "forked"
    assert "2 threads run after the import" in document["state_reason"]
    assert [client.invoke("threaded") for _ in range(5)] == [1] * 5
    (version,) = client.all_versions("threaded")
    assert (version.state, version.state_reason) == ("forked", document["state_reason"])
    done = deploy(server, folder, "sometimes")
    assert done.returncode != 0
    assert "fresh, warm, forked" in done.stderr


@pytest.mark.parametrize("name", ["hello", "thumbnail", "webhook", "gather"])
def test_the_examples_run_fresh(server: Any, client: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    deployed(server, folder)
    picture = io.BytesIO()
    Image.new("RGB", (640, 480), "navy").save(picture, "PNG")
    seen = set()
    for _ in range(ROUNDS if name != "thumbnail" else 50):
        match name:
            case "hello":
                seen.add(json.dumps(client.invoke("hello", name="Ada")))
            case "thumbnail":
                answer = client.call("thumbnail", content=picture.getvalue(), headers={"Content-Type": "image/png"})
                seen.add((answer.status, len(answer.content)))
            case "webhook":
                seen.add(client.call("webhook", content=b"{}").status)
            case "gather":
                seen.add(client.call("gather", json={}).status)
    assert len(seen) == 1, seen
    assert str(next(iter(seen))) not in ("500", "502", "503", "504")


LETTERBOX = """
import os, sqlite3, tempfile
os.makedirs("/tmp/cache/deep")
with open("/tmp/notes", "w") as notes: notes.write("import")
database = sqlite3.connect("/tmp/database")
database.execute("create table t (v)")
unnamed = tempfile.TemporaryFile(buffering=0)
unnamed.write(b"......")
code = open(__file__, "rb", buffering=0)
def handler(way: str):
    found = [os.listdir("/tmp/cache/deep"), open("/tmp/notes").read(), list(database.execute("select * from t"))]
    found += [os.pread(unnamed.fileno(), 6, 0).decode(), code.tell(), os.get_blocking(code.fileno())]
    match way:
        case "folder": open("/tmp/cache/deep/secret", "w").close()
        case "content": open("/tmp/notes", "a").write("secret")
        case "same size": open("/tmp/notes", "r+").write("secret")
        case "open file": database.execute("insert into t values ('secret')"), database.commit()
        case "file without a name": os.pwrite(unnamed.fileno(), b"secret", 0)
        case "position": code.read(5)
        case "flags": os.set_blocking(code.fileno(), False)
        case "rights": os.chmod("/tmp", 0o500)
    return found
"""
"""Files in /tmp, with and without a name, and an open one: all of the import's."""

WAYS = ("folder", "content", "same size", "open file", "file without a name", "position", "flags", "rights")


def test_what_the_import_left_in_tmp_is_nobodys_letterbox(server: Any) -> None:
    untouched = [[], "import", [], "......", 0, True]
    for state in ("fresh", "forked", "warm"):
        function = server.deploy(f"letterbox-{state}", LETTERBOX, state=state, concurrency_max=1).function
        found = {way: server.invoke(function, way=way).json() for way in (*WAYS, "")}
        # Control: who keeps its state keeps these, too.
        assert all(each == untouched for each in found.values()) == (state != "warm"), found
        # A call that changes nothing costs no worker.
        assert [server.invoke(function, way="").headers["tailcut-start"] for _ in range(2)][1] == "warm"


SHARED = """
import mmap, os
memory = mmap.mmap(-1, 4096)
read_end, write_end = os.pipe2(os.O_NONBLOCK)
def handler():
    found = memory[:6].hex().strip("0")
    try: found += os.read(read_end, 100).decode()
    except BlockingIOError: pass
    memory[:6] = b"secret"
    os.write(write_end, b"secret")
    return found
"""


def test_what_a_forked_call_shares_with_its_worker_is_nobodys_letterbox(server: Any) -> None:
    for state in ("fresh", "forked", "warm"):
        deployed = server.deploy(f"shared-{state}", SHARED, state=state, concurrency_max=1)
        assert deployed.document["state"] == ("warm" if state == "warm" else "forked")
        found = [server.invoke(deployed.function).json() for _ in range(3)]
        # Control: as above.
        assert (found == [""] * 3) == (state != "warm"), found


THIEF = """
import json, os, select, struct, time
HEAD = "<IBBHQHHIII"
def answer(sequence, body):
    os.write(3, struct.pack(HEAD, 0x54434631, 2, 0, 200, sequence, 0, 0, 0, len(body), 0) + body)
def handler(way: str, secret: str = ""):
    if way != "steal":
        return "honest"
    answer(1, b'"gone"')
    until = time.monotonic() + 20
    while time.monotonic() < until and not select.select([3], [], [], 0.1)[0]:
        pass
    answer(2, json.dumps(os.read(3, 70_000).decode(errors="replace")).encode())
    time.sleep(20)
"""


def test_a_forked_call_that_answers_by_itself_is_not_sent_the_next_callers(server: Any) -> None:
    stolen = {}
    for state in ("forked", "warm"):
        function = server.deploy(f"thief-{state}", THIEF, state=state, concurrency_max=1, timeout_ms=30_000).function
        first = server.invoke(function, way="steal")
        stolen[state] = "victim's" in server.invoke(function, way="victim", secret="victim's").text
        if state == "forked":
            assert first.status_code == 500
    # Control: in one process for all calls nothing keeps them apart, and it is stolen.
    assert stolen == {"forked": False, "warm": True}
