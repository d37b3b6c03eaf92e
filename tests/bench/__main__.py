"""`make bench`: starts every peer, loads them in turns, measures what only Tailcut has, fills in "Figures to reach".

Peers are interleaved: each round visits all of them, beginning with another one, so that a machine that slows down
slows all of them. The server has one CPU, the load another. What a peer still has to do after its load (Tailcut books
its usage) is waited for, and does not run beside the next one. A peer that cannot start, or a part that fails, is named
and left out; a run with a failed request is no measurement: exit status 1. `--quick` takes some five minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tailcut

from tests.bench import cold, crowd, load, neighbour, openloop, report, rewind, soak
from tests.bench.figures import Measured
from tests.bench.host import PeerError
from tests.bench.load import ROOT, LoadError, Target
from tests.bench.peers import PEERS, Peer, Tailcut
from tests.bench.workloads import ECHO_LARGE, ECHO_SMALL, HELLO, SPIN_LONG, SPIN_SHORT, Workload

PARTS = ("rates", "turns", "curve", "cold", "rewind", "crowd", "neighbour", "soak")
MODES = ("tailcut", "tailcut-fresh", "tailcut-forked")
CURVED = ("tailcut", "tailcut-fresh", "uvicorn")
FUNCTIONS_IN_TURNS = 50
FAILURES = (
    LoadError, PeerError, subprocess.SubprocessError, OSError, AssertionError, RuntimeError, KeyError,
    tailcut.TailcutError,
)  # fmt: skip
_STARTED = time.monotonic()


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    measured = Measured()
    try:
        load.install_tools()
        with tempfile.TemporaryDirectory(prefix="tailcut-bench-") as folder:
            # Workers are other users, and read their code below it.
            Path(folder).chmod(0o755)
            bench = Bench(options, Path(folder), measured)
            bench.run()
    except (LoadError, PeerError) as error:
        say(str(error))
        return 1
    names = {key: peer.name for key, peer in PEERS.items()}
    sys.stdout.write(f"\n{report.tables(measured, names)}\n")
    if options.out:
        write(measured, bench, options)
    return verdict(measured, options.ratio_min)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every part, shortly; no files without --out")
    parser.add_argument("--peers", default=",".join(PEERS), help="of " + ", ".join(PEERS))
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ", ".join(PARTS))
    parser.add_argument("--seconds", type=int, help="of one run (default 4; quick 1)")
    parser.add_argument("--rounds", type=int, help="runs of each peer (default 5; quick 1)")
    parser.add_argument("--soak-seconds", type=int, help="default 600; quick 10")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--ratio-min", type=float, help="fail when Tailcut warm ÷ uvicorn is lower")
    parser.add_argument("--out", type=Path, help="folder of the results (default docs/benchmarks; '' writes nothing)")
    options = parser.parse_args(arguments)
    for name, known in (("peers", tuple(PEERS)), ("parts", PARTS)):
        chosen = [key.strip() for key in getattr(options, name).split(",") if key.strip()]
        setattr(options, name, chosen)
        if unknown := set(chosen) - set(known):
            parser.error(f"unknown {name} {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    quick = options.quick
    options.seconds = options.seconds or (1 if quick else 4)
    options.rounds = options.rounds or (1 if quick else 5)
    options.soak_seconds = options.soak_seconds or (10 if quick else 600)
    if options.out is None:
        options.out = None if quick else ROOT / "docs" / "benchmarks"
    elif options.out == Path():
        options.out = None
    usable = os.sched_getaffinity(0)
    if {options.server_cpu, options.load_cpu} - usable or options.server_cpu == options.load_cpu:
        parser.error(f"the server and the load need a CPU each; this process may use {sorted(usable)}")
    return options


def say(text: str) -> None:
    sys.stdout.write(f"bench {time.monotonic() - _STARTED:6.0f} s: {text}\n")
    sys.stdout.flush()


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path, measured: Measured) -> None:
        self.options = options
        self.folder = folder
        self.measured = measured
        self.peers: dict[str, Peer] = {}
        self.about: dict[str, dict[str, str]] = {}

    def run(self) -> None:
        wanted = self.options.parts
        # First what wants the machine for itself.
        alone = ("cold", self.cold), ("rewind", self.rewind), ("crowd", self.crowd), ("neighbour", self.neighbour)
        for part, of in alone:
            if part in wanted:
                self.guarded(part, of)
        try:
            if {"rates", "turns", "curve", "soak"} & set(wanted):
                self.start_peers()
            for part, of in (("rates", self.rates), ("turns", self.turns), ("curve", self.curve), ("soak", self.soak)):
                if part in wanted:
                    self.guarded(part, of)
        finally:
            for peer in reversed(self.peers.values()):
                peer.stop()

    def guarded(self, what: str, of: Callable[[], None]) -> None:
        """One part that fails does not take the others with it, but is not kept quiet either."""
        say(f"{what} …")
        try:
            of()
        except FAILURES as error:
            self.leave_out(what, f"{type(error).__name__}: {error}")

    def leave_out(self, what: str, why: str) -> None:
        self.measured.left_out[what] = why.strip()[:600]
        say(f"LEFT OUT: {what}: {why.strip()[:600]}")

    def start_peers(self) -> None:
        for key in self.options.peers:
            folder = self.folder / key
            folder.mkdir()
            folder.chmod(0o755)
            peer = PEERS[key](self.options.server_cpu, folder)
            say(f"starting {peer.name} ({peer.about})")
            try:
                peer.start()
            except FAILURES as error:
                peer.stop()
                self.leave_out(peer.name, str(error))
                continue
            self.peers[key] = peer
            self.about[key] = {"name": peer.name, "about": peer.about, "version": peer.version()}

    # -- requests per second ---------------------------------------------------------------------------------------

    def rates(self) -> None:
        quick = self.options.quick
        for connections in (16, 64) if quick else (16, 1, 64):
            self.compare(HELLO, connections, self.options.rounds)
        for workload in (SPIN_SHORT, SPIN_LONG, ECHO_SMALL, ECHO_LARGE):
            self.compare(workload, 16, min(self.options.rounds, 3))

    def compare(self, workload: Workload, connections: int, rounds: int) -> None:
        targets: dict[str, Target] = {}
        for key, peer in self.peers.items():
            if workload.key not in peer.workloads:
                continue
            try:
                peer.check(workload)
                targets[key] = peer.target(workload)
                if not self.options.quick:
                    load.run(targets[key], 1, connections, self.options.load_cpu)
            except FAILURES as error:
                targets.pop(key, None)
                self.leave_out(f"{peer.name}, {workload.title}", str(error))
        self.interleaved(targets, workload, connections, 1, rounds)

    def interleaved(
        self, targets: dict[str, Target], workload: Workload, connections: int, functions: int, rounds: int
    ) -> None:
        order = list(targets)
        self.settle()
        for number in range(rounds):
            first = number % max(len(order), 1)
            for key in order[first:] + order[:first]:
                run = load.run(targets[key], self.options.seconds, connections, self.options.load_cpu)
                self.measured.runs.setdefault((key, workload.key, connections, functions), []).append(run)
                errors = f", ERRORS: {report.describe(run.errors)}" if run.errors else ""
                what = f"{workload.key} c{connections} round {number + 1}/{rounds} {self.peers[key].name}"
                say(f"{what:<58} {run.requests_per_s:9,.0f}/s{errors}")
                self.peers[key].settle()

    def settle(self) -> None:
        """Whoever is next finds an idle machine."""
        for peer in self.peers.values():
            peer.settle()

    def turns(self) -> None:
        """One worker each of 50 functions, called in turns."""
        targets: dict[str, Target] = {}
        for key in MODES:
            peer = self.peers.get(key)
            if isinstance(peer, Tailcut):
                names = [f"turn-{peer.state}-{n:02}" for n in range(FUNCTIONS_IN_TURNS)]
                targets[key] = crowd.in_turns(peer.server.deploy_many(names, HELLO, peer.state, workers_min=1))
                load.run(targets[key], 1, 16, self.options.load_cpu)
        self.interleaved(targets, HELLO, 16, FUNCTIONS_IN_TURNS, min(self.options.rounds, 3))

    # -- latency at a rate -----------------------------------------------------------------------------------------

    def curve(self) -> None:
        program = openloop.build(self.folder)
        self.settle()
        capacities = {key: self.capacity(key) for key in CURVED if key in self.peers}
        shares = (50, 90) if self.options.quick else (10, 25, 50, 75, 90, 95)
        seconds, rounds = float(self.options.seconds), min(self.options.rounds, 3)
        for number in range(rounds):
            for share in shares:
                for key, capacity in capacities.items():
                    point = self.point(program, key, capacity * share / 100, seconds)
                    self.measured.curves.setdefault(key, {}).setdefault(share, []).append(point)
            if "tailcut-fresh" in capacities:
                for key in MODES[:2]:
                    if key in capacities:
                        point = self.point(program, key, capacities["tailcut-fresh"] / 2, seconds)
                        self.measured.half_of_fresh.setdefault(key, []).append(point)
            say(f"curve round {number + 1}/{rounds} done")

    def capacity(self, key: str) -> float:
        known = self.measured.rate(key, HELLO.key, 64)
        if known is not None:
            return known
        return load.run(self.peers[key].target(HELLO), self.options.seconds, 64, self.options.load_cpu).requests_per_s

    def point(self, program: Path, key: str, rate: float, seconds: float) -> openloop.Point:
        point = openloop.run(program, self.peers[key].target(HELLO), rate, seconds, self.options.load_cpu)
        errors = f", ERRORS: {report.describe(point.errors)}" if point.errors else ""
        say(f"open loop {self.peers[key].name:<22} {rate:9,.0f}/s: p50 {point.p50_us} p99 {point.p99_us} µs{errors}")
        self.peers[key].settle()
        return point

    # -- what only Tailcut has -------------------------------------------------------------------------------------

    def cold(self) -> None:
        quick = self.options.quick
        self.measured.baseline = cold.baseline(5 if quick else 15)
        calls, bursts = (10, 1) if quick else (50, 5)
        for state in ("warm", "fresh"):
            self.guarded(f"cold, {state}", partial(self.cold_state, state, calls, bursts))

    def cold_state(self, state: str, calls: int, bursts: int) -> None:
        self.measured.cold += cold.measure(self.folder / f"cold-{state}", [state], calls, bursts)

    def rewind(self) -> None:
        found, left_out = rewind.measure(2_000 if self.options.quick else 20_000)
        self.measured.rewinds.update(found)
        for what, why in left_out.items():
            self.leave_out(what, why)

    def crowd(self) -> None:
        deployed, live = (20, 10) if self.options.quick else (1_000, 200)
        cpus = self.options.server_cpu, self.options.load_cpu
        self.measured.crowd = crowd.measure(self.folder / "crowd", *cpus, deployed, live, self.options.seconds, "warm")

    def neighbour(self) -> None:
        """Places one after the other: each has the CPUs for itself."""
        for place in neighbour.PLACES:
            self.guarded(f"neighbour, {neighbour.TITLES[place]}", partial(self.neighbour_place, place))

    def neighbour_place(self, place: str) -> None:
        cpus = neighbour.Cpus(self.options.server_cpu, self.options.load_cpu)
        seconds, rounds = (2.0, 1) if self.options.quick else (15.0, 3)
        folder = self.folder / f"neighbour-{place}"
        self.measured.neighbours[place] = neighbour.measure(place, folder, cpus, seconds, rounds, say)

    def soak(self) -> None:
        modes = [peer for key, peer in self.peers.items() if key in MODES and isinstance(peer, Tailcut)]
        if not modes:
            raise PeerError("Tailcut is not among the peers")
        targets = [peer.target(HELLO) for peer in modes]
        self.measured.soak = soak.measure(
            modes[0].server, targets, self.options.soak_seconds, self.options.load_cpu, say
        )


def write(measured: Measured, bench: Bench, options: argparse.Namespace) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    facts: dict[str, object] = {
        "command": "make bench ARGS='" + " ".join(sys.argv[1:]) + "'" if sys.argv[1:] else "make bench",
        "commit": commit.stdout.strip(),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "pinning": {"server_cpu": options.server_cpu, "load_cpu": options.load_cpu},
    }
    names = {key: peer.name for key, peer in PEERS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latest.json").write_text(report.document(measured, bench.about, facts))
    (options.out / "latest.svg").write_text(report.chart(measured, names))
    (options.out / "latest.txt").write_text(report.tables(measured, names) + "\n")
    sys.stdout.write(f"\nwritten: latest.json, latest.svg and latest.txt in {options.out}\n")


def verdict(measured: Measured, ratio_min: float | None) -> int:
    """1: something failed that must not: a request, the soak, a ratio that was asked for."""
    names = {key: peer.name for key, peer in PEERS.items()}
    bad: list[str] = []
    for key, runs in measured.runs.items():
        if errors := report.errors_of(runs):
            bad.append(f"{names.get(key[0], key[0])}, {key[1]}: {report.describe(errors)}; this is no measurement")
    for place, found in measured.neighbours.items():
        if found.failed:
            bad.append(f"neighbour, {place}: {found.failed} calls failed; this is no measurement")
    if measured.soak is not None:
        if measured.soak.errors:
            bad.append(f"soak: {report.describe(measured.soak.errors)}")
        if len(measured.soak.samples) >= 12 and not (measured.soak.memory_flat and measured.soak.descriptors_flat):
            bad.append("soak: memory or descriptors grow")
    warm, base = measured.rate("tailcut"), measured.rate(report.BASE)
    if ratio_min is not None and (warm is None or not base or warm / base < ratio_min):
        bad.append(f"Tailcut warm ÷ uvicorn is under {ratio_min}")
    for each in bad:
        sys.stdout.write(f"bench: FAILED: {each}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
