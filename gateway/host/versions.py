"""What becomes of each version on this node: wanted → fetched → probing → ready | failed.

    wanted    its bundle is not here yet            fetched   unpacked; waits for its turn to start a worker
    probing   a first worker is starting            ready     a worker was ready: routes may go to it
    failed    it cannot run, and trying again would change nothing; the old version keeps serving. Deployed again (the
              table's ``attempt`` rises) it begins anew

When the fault is ours (store away, no zygote, time-out) the version goes back one step and tries again later, for
ever, with back-off; from the third failure on the control plane is told. A version known ready from before needs no
probe. Pure bookkeeping: no I/O, no clock; ``node`` does what this class says is due and tells it what happened.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.contract.report import StartFailure
from gateway.contract.table import Version
from gateway.contract.worker import FRESH_UNAVAILABLE, State
from gateway.host.memory import ReadyRecord, WorkerReadyDocument

_ATTEMPTS_UNREPORTED = 2
_BACKOFF_FIRST_S = 1.0


class Stage(StrEnum):
    WANTED = "wanted"
    FETCHED = "fetched"
    PROBING = "probing"
    READY = "ready"
    FAILED = "failed"


_MOVES = {
    Stage.WANTED: {Stage.FETCHED, Stage.READY, Stage.FAILED},
    Stage.FETCHED: {Stage.PROBING},
    Stage.PROBING: {Stage.READY, Stage.FAILED, Stage.FETCHED},
    Stage.READY: {Stage.WANTED},
    Stage.FAILED: {Stage.WANTED},
}


@dataclass(slots=True)
class VersionState:
    """One version on this node."""

    version: Version
    stage: Stage = Stage.WANTED
    ready: WorkerReadyDocument | None = None
    start_us: int | None = None
    error: StartFailure | None = None
    """Why the last attempt failed; kept after a retry until it succeeds."""
    attempts: int = 0
    due_s: float = 0.0
    """Not before this moment."""
    since_s: float = 0.0
    """When the stage was entered."""
    fetching: bool = False
    wanted_s: float = 0.0
    """When something last referred to it."""
    forked_because: str = ""
    """Why it runs ``forked`` here although it asked for fresh state."""
    leaving: bool = False
    """The data plane must first be rid of the row of its last attempt."""

    @property
    def run_state(self) -> State:
        """What its workers really do."""
        return "forked" if self.forked_because else self.version.limits.state

    def move(self, stage: Stage, now: float) -> None:
        """The one place where a stage changes."""
        if stage not in _MOVES[self.stage]:
            raise AssertionError(f"version {self.version.id}: {self.stage} cannot become {stage}")
        self.stage = stage
        self.since_s = now


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that the control plane is to be told."""

    version: Version
    ready: WorkerReadyDocument | None
    start_us: int | None
    error: StartFailure | None
    forked_because: str = ""


@dataclass(slots=True)
class Versions:
    """All versions of the node. Times are monotonic seconds that the caller passes in."""

    fetches_max: int
    probes_max: int
    probe_timeout_s: float
    backoff_max_s: float
    states: dict[str, VersionState] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    """Since the caller last took them."""
    bundles: Counter[str] = field(default_factory=Counter)
    """How many versions have a bundle."""

    def restore(self, records: Iterable[ReadyRecord], here: set[str], now: float) -> None:
        """Versions known ready from before; those whose bundle has gone are fetched again, but not probed."""
        for record in records:
            state = VersionState(
                record.version,
                ready=record.ready,
                start_us=record.start_us,
                wanted_s=now,
                forked_because=record.forked_because,
            )
            if record.version.bundle_sha256 in here:
                state.move(Stage.READY, now)
            self._add(state)

    def want(self, versions: Iterable[Version], now: float) -> list[str]:
        """The versions that the table and the served aliases refer to. → those whose environment is another one now:
        a secret was set, and workers that have the old one must go."""
        renewed: list[str] = []
        for version in versions:
            state = self.states.get(version.id)
            if state is None:
                self._add(VersionState(version, since_s=now, wanted_s=now))
                continue
            again = version.attempt > state.version.attempt
            if version.env != state.version.env:
                renewed.append(version.id)
            state.version = version  # limits and secrets may change; code, handler and id never do
            state.wanted_s = now
            if again:
                self._deployed_again(state, now)
        return renewed

    def due_fetches(self, now: float, first: set[str]) -> list[VersionState]:
        """Which bundles to fetch now; ids in ``first`` (those that an alias names) go before others."""
        running = [state for state in self.states.values() if state.fetching]
        due = [
            state
            for state in self.states.values()
            if state.stage is Stage.WANTED and not state.fetching and state.due_s <= now and state.wanted_s == now
        ]
        due.sort(key=lambda state: (state.version.id not in first, state.since_s))
        chosen = _share(due, running, self.fetches_max)
        for state in chosen:
            state.fetching = True
        return chosen

    def fetched(self, version_id: str, now: float) -> None:
        """The bundle is on the disk."""
        state = self.states[version_id]
        state.fetching = False
        state.attempts, state.due_s = 0, 0.0
        if state.ready is not None:
            state.move(Stage.READY, now)
        else:
            state.move(Stage.FETCHED, now)

    def fetch_failed(self, version_id: str, error: StartFailure, *, final: bool, now: float) -> None:
        state = self.states[version_id]
        state.fetching = False
        if final:
            self._fail(state, error, now)
        else:
            self._postpone(state, error, now)

    def begin_probes(self, now: float, first: set[str]) -> None:
        """Moves due versions to ``probing``; one that has waited too long for its answer goes back."""
        probing = [state for state in self.states.values() if state.stage is Stage.PROBING]
        for state in probing:
            if now - state.since_s > self.probe_timeout_s:
                message = f"no worker was ready or failed within {self.probe_timeout_s:g} s"
                self._probe_again(state, StartFailure(type="ProbeTimeout", message=message), now)
        running = [state for state in probing if state.stage is Stage.PROBING]
        due = [
            state
            for state in self.states.values()
            if state.stage is Stage.FETCHED and state.due_s <= now and state.wanted_s == now and not state.leaving
        ]
        due.sort(key=lambda state: (state.version.id not in first, state.since_s))
        for state in _share(due, running, self.probes_max):
            state.move(Stage.PROBING, now)

    def worker_ready(self, version_id: str, ready: WorkerReadyDocument, now: float) -> bool:
        """A worker is up. True when that made the version ready; later workers of it change nothing."""
        state = self.states.get(version_id)
        if state is None or state.stage is not Stage.PROBING:
            return False
        state.start_us = max(0, round((now - state.since_s) * 1e6))
        state.ready, state.error, state.attempts = ready, None, 0
        state.move(Stage.READY, now)
        self.outcomes.append(Outcome(state.version, ready, state.start_us, None, state.forked_because))
        return True

    def worker_failed(self, version_id: str, error: StartFailure, *, ours: bool, now: float) -> bool:
        """A worker could not start. True when that changed something about the version."""
        state = self.states.get(version_id)
        if state is None:
            return False
        if error.type == FRESH_UNAVAILABLE and state.run_state == "fresh":
            self._fall_back(state, error.message, now)
            return True
        if state.stage is not Stage.PROBING:
            return False
        if ours:
            self._probe_again(state, error, now)
        else:
            self._fail(state, error, now)
        return True

    def applied(self) -> bool:
        """The data plane has the revision that was built last. True when something was waiting for that."""
        waiting = [state for state in self.states.values() if state.leaving]
        for state in waiting:
            state.leaving = False
        return bool(waiting)

    def lost(self, version_id: str, now: float) -> None:
        """The files of a ready version have gone from the disk."""
        state = self.states[version_id]
        if state.stage is Stage.READY:
            state.move(Stage.WANTED, now)

    def expire(self, now: float, keep_s: float) -> list[Version]:
        """Forgets what nothing has referred to for ``keep_s``; returns it, for its files to be removed."""
        gone = [state.version for state in self.states.values() if now - state.wanted_s > keep_s and not state.fetching]
        for version in gone:
            del self.states[version.id]
            self.bundles[version.bundle_sha256] -= 1
            if not self.bundles[version.bundle_sha256]:
                del self.bundles[version.bundle_sha256]
        return gone

    def next_due_s(self, now: float) -> float | None:
        """When something will be due by itself, in seconds from now."""
        moments = []
        for state in self.states.values():
            if state.stage is Stage.PROBING:
                moments.append(state.since_s + self.probe_timeout_s)
            elif state.stage in (Stage.WANTED, Stage.FETCHED) and state.due_s > now:
                moments.append(state.due_s)
        return max(0.0, min(moments) - now) if moments else None

    def _add(self, state: VersionState) -> None:
        self.states[state.version.id] = state
        self.bundles[state.version.bundle_sha256] += 1

    def _deployed_again(self, state: VersionState, now: float) -> None:
        """Somebody waits for the outcome: what failed is tried without its back-off, what is known is said again."""
        state.attempts, state.due_s = 0, 0.0
        if state.stage is Stage.FAILED:
            state.move(Stage.WANTED, now)
        elif state.stage is Stage.READY:
            self.outcomes.append(Outcome(state.version, state.ready, state.start_us, None, state.forked_because))

    def _fall_back(self, state: VersionState, reason: str, now: float) -> None:
        """Isolation is kept, by dearer means. One that was ready serves on: its next workers fork."""
        state.forked_because = reason
        if state.stage is Stage.PROBING:
            state.move(Stage.FETCHED, now)
            state.leaving = True
        elif state.stage is Stage.READY:
            self.outcomes.append(Outcome(state.version, state.ready, state.start_us, None, reason))

    def _probe_again(self, state: VersionState, error: StartFailure, now: float) -> None:
        state.move(Stage.FETCHED, now)
        self._postpone(state, error, now)

    def _postpone(self, state: VersionState, error: StartFailure, now: float) -> None:
        state.error = error
        state.attempts += 1
        state.due_s = now + min(_BACKOFF_FIRST_S * 2 ** min(state.attempts - 1, 16), self.backoff_max_s)
        if state.attempts == _ATTEMPTS_UNREPORTED + 1:
            self.outcomes.append(Outcome(state.version, None, None, error))

    def _fail(self, state: VersionState, error: StartFailure, now: float) -> None:
        state.error = error
        state.move(Stage.FAILED, now)
        self.outcomes.append(Outcome(state.version, None, None, error))


def _share(due: list[VersionState], running: list[VersionState], places: int) -> list[VersionState]:
    """Who of ``due`` gets the free ones of ``places``, in its order, but tenant by tenant.

    A tenant whose versions hang, or arrive by the hundred, leaves a quarter of the places: another's deploy does not
    wait for them.
    """
    held = Counter(state.version.tenant_id for state in running)
    tenant_max = places - places // 4
    waiting = list(due)
    chosen: list[VersionState] = []
    while waiting and len(running) + len(chosen) < places:
        state = min(waiting, key=lambda state: held[state.version.tenant_id])  # the first of equals
        if held[state.version.tenant_id] >= tenant_max:
            break
        waiting.remove(state)
        held[state.version.tenant_id] += 1
        chosen.append(state)
    return chosen
