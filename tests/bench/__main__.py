"""`make bench`: starts every peer, loads them in turns, prints the table, writes JSON and a chart; fails on any error.

Peers are interleaved: each round visits all of them, beginning with another one, so that a machine that slows down
slows all of them. The server has one CPU, wrk another. A run with a failed request is no measurement: exit status 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import load, report
from tests.bench.load import ROOT, LoadError, Target
from tests.bench.peers import PEERS, Peer, PeerError


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        load.need_wrk()
        results = measure(options)
    except (LoadError, PeerError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print()
    print(report.table(results))
    if options.out:
        write(results, options)
    return verdict(results, options.ratio_min)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="of " + ", ".join(PEERS))
    parser.add_argument("--seconds", type=int, default=5, help="of one run (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer (default 5)")
    parser.add_argument("--connections", type=int, default=64, help=f"at most {load.CONNECTIONS_MAX} (default 64)")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--ratio-min", type=float, help="fail when Tailcut ÷ uvicorn is lower")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="'' writes nothing")
    options = parser.parse_args(arguments)
    options.peers = [key.strip() for key in options.peers.split(",") if key.strip()]
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    if options.out == Path():
        options.out = None
    usable = os.sched_getaffinity(0)
    if {options.server_cpu, options.load_cpu} - usable or options.server_cpu == options.load_cpu:
        parser.error(f"the server and wrk need a CPU each; this process may use {sorted(usable)}")
    return options


def measure(options: argparse.Namespace) -> list[report.Result]:
    started: list[tuple[str, Peer, Target]] = []
    runs: dict[str, list[load.Run]] = {key: [] for key in options.peers}
    with tempfile.TemporaryDirectory(prefix="tailcut-bench-") as folder:
        try:
            for key in options.peers:
                own = Path(folder) / key
                own.mkdir()
                peer = PEERS[key](options.server_cpu, own)
                print(f"bench: starting {peer.name} ({peer.about})", flush=True)
                # Recorded before it starts: one that fails half-way is stopped too.
                started.append((key, peer, Target("", "")))
                started[-1] = (key, peer, peer.start())
            for _, _, target in started:
                load.run(target, 1, options.connections, options.load_cpu)
            for number in range(options.rounds):
                first = number % len(started)
                for key, peer, target in started[first:] + started[:first]:
                    run = load.run(target, options.seconds, options.connections, options.load_cpu)
                    runs[key].append(run)
                    errors = f", errors: {report.describe(run.errors)}" if run.errors else ""
                    rate = f"{run.requests_per_s:9,.0f}/s"
                    print(f"bench: round {number + 1} {peer.name:<22} {rate}{errors}", flush=True)
            return [
                report.Result(key, peer.name, peer.about, peer.version(), tuple(runs[key])) for key, peer, _ in started
            ]
        finally:
            for _, peer, _ in reversed(started):
                peer.stop()


def write(results: list[report.Result], options: argparse.Namespace) -> None:
    facts: dict[str, object] = {
        "command": f"make bench ARGS='--seconds {options.seconds} --rounds {options.rounds} "
        f"--connections {options.connections}'",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "connections": options.connections,
        "pinning": {"server_cpu": options.server_cpu, "load_cpu": options.load_cpu},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latest.json").write_text(report.document(results, facts))
    (options.out / "latest.svg").write_text(report.chart(results))
    print(f"\nwritten: {options.out}/latest.json and latest.svg")


def verdict(results: list[report.Result], ratio_min: float | None) -> int:
    failed = [result for result in results if result.errors]
    for result in failed:
        print(f"bench: {result.name} had errors: {report.describe(result.errors)}; this is no measurement")
    relation = report.ratio(results)
    if relation is not None:
        print(f"Tailcut ÷ raw ASGI on uvicorn: {relation:.2f}")
    too_slow = ratio_min is not None and (relation is None or relation < ratio_min)
    if too_slow:
        print(f"bench: the ratio is under {ratio_min}")
    return 1 if failed or too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
