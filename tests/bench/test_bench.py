"""The benchmark's own parts: peers really start and answer, errors fail the run, the report is whole. Needs no wrk."""

import dataclasses
import json
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import figures, load, neighbour_load, openloop, report
from tests.bench.__main__ import verdict
from tests.bench.cold import BURST, Baseline, Cold
from tests.bench.figures import Measured
from tests.bench.host import PeerError
from tests.bench.neighbour import Neighbour
from tests.bench.neighbour_load import Latency
from tests.bench.peers import PEERS, Peer
from tests.bench.soak import Sample, Soak
from tests.bench.tailcut_server import private_bytes
from tests.bench.workloads import HELLO, WORKLOADS

LINE = (
    '{"requests":1000,"duration_us":2000000,"p50_us":900,"p99_us":3000,"p999_us":4000,"max_us":9000,'
    '"errors_connect":0,"errors_read":%d,"errors_write":0,"errors_timeout":0,"errors_status":%d}\n'
)
NAMES = {"tailcut": "tailcut & co", "uvicorn": "uvicorn & co"}


def measured(errors: dict[str, int] | None = None, **rates: list[float]) -> Measured:
    """``hello``, 16 connections."""
    found = Measured()
    for peer, each in rates.items():
        runs = [load.Run(rate, 900, 3000, 4000, 9000, int(rate), errors or {}) for rate in each]
        found.runs[peer, "hello", 16, 1] = runs
    return found


def test_what_wrk_reports_is_read_with_its_errors() -> None:
    run = load.parse("Running 2s test\n" + LINE % (0, 0))
    assert (run.requests_per_s, run.p50_us, run.errors) == (500.0, 900, {})
    assert load.parse(LINE % (2, 3)).errors == {"read": 2, "status": 3}


def test_a_wrk_that_does_not_report_is_an_error() -> None:
    with pytest.raises(load.LoadError, match="unable to connect"):
        load.parse("", "unable to connect to 127.0.0.1:1")


def test_more_connections_than_the_rule_allows_are_refused() -> None:
    with pytest.raises(load.LoadError, match="1 to 64"):
        load.run(load.Target("http://127.0.0.1:1/", HELLO.body), 1, 65, 0)


def test_an_error_of_any_peer_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    good = measured(tailcut=[100.0], uvicorn=[50.0])
    assert verdict(good, None) == 0
    assert verdict(good, 2.1) == 1
    assert verdict(measured({"status": 1}, floor=[1.0]), None) == 1
    assert "1 status" in capsys.readouterr().out


def test_a_soak_that_grows_fails_the_run() -> None:
    def soak(step: int, descriptors: int) -> Measured:
        samples = [Sample(n, 100 * 2**20 + n * step, 50 + n * descriptors, 2) for n in range(30)]
        return dataclasses.replace(measured(tailcut=[1.0]), soak=Soak(30, 1000, {}, samples))

    assert verdict(soak(0, 0), None) == 0
    assert verdict(soak(2**20, 0), None) == 1
    assert verdict(soak(0, 1), None) == 1


def test_the_report_has_every_peer_its_median_and_its_spread() -> None:
    found = measured(uvicorn=[100.0, 50.0, 90.0], tailcut=[180.0, 190.0, 170.0])
    found.left_out["some peer"] = "it does not start"
    text = report.tables(found, NAMES)
    assert "2.00" in text
    assert "some peer: it does not start" in text
    picture = report.chart(found, NAMES)
    ElementTree.fromstring(picture)
    assert "uvicorn &amp; co" in picture
    document = json.loads(report.document(found, {}, {"rounds": 3}))
    assert [(run["peer"], run["median_requests_per_s"]) for run in document["runs"]] == [
        ("uvicorn", 90),
        ("tailcut", 180),
    ]


def test_figures_are_judged_and_what_was_not_measured_says_so() -> None:
    found = measured(uvicorn=[100.0], tailcut=[240.0])
    found.baseline = Baseline(python_ms=80.0, interpreter_ms=10.0, fork_ms=0.5, cpus=2)
    found.cold = [Cold("warm", [4.0, 8.0, 40.0], [BURST * 0.25 * 9], [2**20])]
    judged = {row["figure"]: (row["value"], row["reached"]) for row in figures.document(found)}
    assert judged["warm requests/s ÷ raw uvicorn, 16 connections, hello"] == (2.4, "must")
    assert judged["cold start ÷ python3 -c pass (warm)"] == (0.1, "goal")
    assert judged["private memory per idle worker (hello, warm)"] == (1.0, "goal")
    assert judged["100 cold functions at once ÷ (100 × fork ÷ CPUs), warm"] == (9.0, "missed")
    assert judged["our warm requests/s ÷ floor"] == (None, "not measured")


def neighbour(alone_ms: list[int], noisy_ms: list[int], failed: int = 0) -> Neighbour:
    """p99 of each round."""
    alone, noisy = (
        [Latency(5000, p99 * 1000, p99 * 1000, 300, failed, 0) for p99 in each] for each in (alone_ms, noisy_ms)
    )
    return Neighbour(alone, noisy)


def test_neighbours_are_reported_by_the_medians_of_their_rounds() -> None:
    found = Measured()
    found.neighbours = {"reserved": neighbour([6, 7, 60], [8, 9, 7]), "weights": neighbour([6, 6, 6], [12, 90, 15])}
    judged = {row["figure"]: (row["value"], row["reached"]) for row in figures.document(found)}
    assert judged["reserved tier: noisy p99 ÷ alone"] == (8 / 7, "goal")
    assert judged["  the same, gunicorn, weights alone"] == (2.5, "beside it")
    assert judged["  the same, gunicorn"] == (None, "not measured")
    text = report.tables(found, NAMES)
    assert "8.0 9.0 7.0" in text
    assert "The reservation beats gunicorn, weights alone: 1.14 against 2.50, noisy p99 8.00 against 15.00 ms" in text
    document = json.loads(report.document(found, {}, {}))
    assert document["neighbours"]["reserved"]["p99_noisy_over_alone"] == 1.143
    assert [one["p99_us"] for one in document["neighbours"]["weights"]["noisy"]] == [12_000, 90_000, 15_000]


def test_a_reservation_that_is_no_better_is_said_to_be_none() -> None:
    found = Measured()
    # A better ratio, but only since alone is worse.
    found.neighbours = {"reserved": neighbour([10], [17]), "best-effort": neighbour([6], [12])}
    assert "The reservation DOES NOT BEAT best effort" in report.tables(found, NAMES)
    judged = {row["figure"]: row["reached"] for row in figures.document(found)}
    assert judged["reserved tier: noisy p99 ÷ alone"] == "missed"


def test_a_ratio_that_only_a_disturbed_run_alone_explains_is_no_merit() -> None:
    found = Measured()
    found.neighbours = {"reserved": neighbour([28], [7])}
    judged = {row["figure"]: row["reached"] for row in figures.document(found)}
    assert judged["reserved tier: noisy p99 ÷ alone"] == "not measured"


def test_a_call_beside_neighbours_that_failed_fails_the_run() -> None:
    found = Measured()
    found.neighbours = {"reserved": neighbour([6], [6])}
    assert verdict(found, None) == 0
    found.neighbours = {"reserved": neighbour([6], [6], failed=1)}
    assert verdict(found, None) == 1


def test_private_memory_counts_what_is_written_and_not_what_is_shared() -> None:
    # Mapped anew: what an allocator hands out may have been written to before, and counted.
    with mmap.mmap(-1, 16 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        before = private_bytes(os.getpid())
        block.write(b"x" * len(block))
        assert 15 * 2**20 < private_bytes(os.getpid()) - before < 20 * 2**20


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stall = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.stall.is_set():
            self.stall.set()
            threading.Event().wait(1.5)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_server_that_stalls_cannot_hide_the_requests_that_were_due(tmp_path: Path) -> None:
    """One connection at a time is served, and the first answer takes 1.5 s: whatever was due meanwhile has waited."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        target = load.Target(f"http://127.0.0.1:{server.server_port}/", "{}")
        program = openloop.build(tmp_path)
        point = openloop.run(program, target, 20, 2, min(os.sched_getaffinity(0)), connections=1)
    finally:
        server.shutdown()
        server.server_close()
    assert point.answered == point.due > 10
    assert point.p90_us > 500_000
    assert point.errors == {}


class Stalls(Answers):
    """Nothing is answered for 2.5 s from the first request on."""

    asked = threading.Lock()
    stall = threading.Event()
    released = threading.Event()

    def do_POST(self) -> None:
        if self.asked.acquire(blocking=False):
            threading.Timer(2.5, self.released.set).start()
        self.released.wait()
        self.stall.set()
        super().do_POST()


class Prompt(Answers):
    stall = threading.Event()
    stall.set()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[load.Target]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield load.Target(f"http://127.0.0.1:{server.server_port}/", "{}")
    finally:
        server.shutdown()
        server.server_close()


def test_the_neighbours_client_counts_from_when_a_call_was_due() -> None:
    """More calls are due during the stall than the client has threads, so some are sent after it, and answered at once:
    they have waited all the same."""
    with serving(Stalls) as target:
        found = neighbour_load.measure(target, 40, 2.0, min(os.sched_getaffinity(0)))
    assert (found.requests, found.failed, found.reserved) == (80, 0, 0)
    assert found.max_us > 500_000
    assert found.p50_us > 200_000


def test_hogs_are_called_until_the_end_and_one_that_never_answers_is_no_neighbour() -> None:
    cpu = min(os.sched_getaffinity(0))
    with serving(Prompt) as target:
        with neighbour_load.burning([target, target], cpu):
            threading.Event().wait(0.5)
        silent = load.Target("http://127.0.0.1:1/", "{}")
        with pytest.raises(PeerError, match="not every hog"), neighbour_load.burning([target, silent], cpu):
            threading.Event().wait(0.5)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert neighbour_load.percentile(list(range(1, 201)), 99) == 198
    assert neighbour_load.percentile([7], 99) == 7
    assert neighbour_load.percentile([1, 2, 3], 50) == 2


@pytest.mark.parametrize(
    "key", ["uvicorn", "granian", "granian-wsgi", "fastapi", "functions-framework", "uwsgi", "floor"]
)
def test_a_peer_starts_gives_the_right_answers_and_ends(key: str, tmp_path: Path) -> None:
    peer = PEERS[key](min(os.sched_getaffinity(0)), tmp_path)
    try:
        peer.start()
        for workload in WORKLOADS.values():
            if workload.key in peer.workloads:
                peer.check(workload)
        assert peer.process is not None
        assert peer.process.poll() is None
    finally:
        peer.stop()
    assert peer.process.poll() is not None


def test_a_peer_that_answers_something_else_is_not_measured(tmp_path: Path) -> None:
    class Silent(Peer):
        name = "silent"

        def start(self) -> None:
            self.spawn("sh", "-c", "echo it went wrong; exit 3")

    peer = Silent(min(os.sched_getaffinity(0)), tmp_path)
    with pytest.raises(PeerError, match="it went wrong"):
        peer.start()
    peer.stop()
