"""The benchmark's own parts: peers really start and answer, errors fail the run, the report is whole. Needs no wrk."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import load, report
from tests.bench.__main__ import verdict
from tests.bench.peers import ANSWER, BODY, PEERS, Peer, PeerError, call

LINE = (
    '{"requests":1000,"duration_us":2000000,"p50_us":900,"p99_us":3000,"p999_us":4000,"max_us":9000,'
    '"errors_connect":0,"errors_read":%d,"errors_write":0,"errors_timeout":0,"errors_status":%d}\n'
)


def result(key: str, *rates: float, errors: dict[str, int] | None = None) -> report.Result:
    runs = tuple(load.Run(rate, 900, 3000, 4000, 9000, int(rate), errors or {}) for rate in rates)
    return report.Result(key, f"{key} & co", "about", "1.0", runs)


def test_what_wrk_reports_is_read_with_its_errors() -> None:
    run = load.parse("Running 2s test\n" + LINE % (0, 0))
    assert (run.requests_per_s, run.p50_us, run.errors) == (500.0, 900, {})
    assert load.parse(LINE % (2, 3)).errors == {"read": 2, "status": 3}


def test_a_wrk_that_does_not_report_is_an_error() -> None:
    with pytest.raises(load.LoadError, match="unable to connect"):
        load.parse("", "unable to connect to 127.0.0.1:1")


def test_more_connections_than_the_rule_allows_are_refused() -> None:
    with pytest.raises(load.LoadError, match="1 to 64"):
        load.run(load.Target("http://127.0.0.1:1/", BODY), 1, 65, 0)


def test_an_error_of_any_peer_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    good = [result("tailcut", 100.0), result("uvicorn", 50.0)]
    assert verdict(good, None) == 0
    assert verdict(good, 2.1) == 1
    assert verdict([*good, result("floor", 1.0, errors={"status": 1})], None) == 1
    assert "1 status" in capsys.readouterr().out


def test_the_report_has_every_peer_its_median_and_its_spread() -> None:
    results = [result("uvicorn", 100.0, 50.0, 90.0), result("tailcut", 180.0, 190.0, 170.0)]
    assert report.ratio(results) == 2.0
    assert "90" in report.table(results)
    picture = report.chart(results)
    ElementTree.fromstring(picture)
    assert "uvicorn &amp; co" in picture
    peers = json.loads(report.document(results, {"rounds": 3}))["peers"]
    assert [(peer["key"], peer["median_requests_per_s"], peer["ratio"]) for peer in peers] == [
        ("uvicorn", 90, 1.0),
        ("tailcut", 180, 2.0),
    ]


@pytest.mark.parametrize("key", ["uvicorn", "granian", "fastapi", "floor"])
def test_a_peer_starts_gives_the_answer_and_ends(key: str, tmp_path: Path) -> None:
    peer = PEERS[key](min(os.sched_getaffinity(0)), tmp_path)
    try:
        assert call(peer.start()) == ANSWER
        assert peer.process is not None
        assert peer.process.poll() is None
    finally:
        peer.stop()
    assert peer.process.poll() is not None


def test_a_peer_that_answers_something_else_is_not_measured(tmp_path: Path) -> None:
    class Silent(Peer):
        name = "silent"

        def start(self) -> load.Target:
            return self.spawn("sh", "-c", "echo it went wrong; exit 3")

    peer = Silent(min(os.sched_getaffinity(0)), tmp_path)
    with pytest.raises(PeerError, match="it went wrong"):
        peer.start()
    peer.stop()
