"""Programs that change all that a handler can change: the next invocation finds the state of a first one, to the byte.

Two witnesses: the function itself, which tells all that it can see of its state; and the worker's memory, read from
outside while it waits: each page that is not the checkpoint's file is compared with what it was before the program.
"""

import json
import os
from array import array
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fresh.programs import SEEN, SOURCE, program
from tests.support.frames import Worker, wait_until
from tests.worker.conftest import Start

PROGRAMS = 2_000
PARTS = 4
"""Tests that share them: none takes long."""
PAGE = 4096
PRESENT, FILE = 1 << 63, 1 << 61
TWISTER_BYTES = 16 + 4 * 625


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    permissions: str
    offset: int
    about: tuple[str, ...]
    """Device, inode, name."""

    def continued_by(self, other: "Mapping") -> bool:
        follows = self.offset + self.end - self.start == other.offset or self.about[1] == "0"
        return (
            self.end == other.start and follows and (self.permissions, self.about) == (other.permissions, other.about)
        )


class Memory:
    """All private memory of a waiting worker: its mappings, and the pages that are its own."""

    def __init__(self, worker: Worker) -> None:
        self._folder = Path(f"/proc/{worker.pid}")
        self._pagemap = os.open(self._folder / "pagemap", os.O_RDONLY)
        self._memory = os.open(self._folder / "mem", os.O_RDONLY)
        self._lines: list[str] = []
        self._mappings: list[Mapping] = []

    def close(self) -> None:
        os.close(self._pagemap)
        os.close(self._memory)

    def mappings(self) -> list[Mapping]:
        """Without the stack, which grows. Neighbours that continue each other are one: the kernel splits at will."""
        lines = (self._folder / "maps").read_text().splitlines()
        if lines != self._lines:
            self._lines, self._mappings = lines, self._parsed(lines)
        return self._mappings

    def _parsed(self, lines: list[str]) -> list[Mapping]:
        found: list[Mapping] = []
        for line in lines:
            area, permissions, offset, *rest = line.split()
            start, end = (int(part, 16) for part in area.split("-"))
            mapping = Mapping(start, end, permissions, int(offset, 16), tuple(rest))
            if mapping.about[-1] == "[stack]":
                continue
            if found and found[-1].continued_by(mapping):
                mapping = replace(found.pop(), end=end)
            found.append(mapping)
        return found

    def areas(self, mappings: list[Mapping]) -> list[tuple[int, int]]:
        """Where the checkpoint's or the zygote's file lies."""
        return [
            (one.start, one.end)
            for one in mappings
            if one.permissions == "rw-p" and any(part.startswith("/memfd:") for part in one.about)
        ]

    def own(self, mappings: list[Mapping]) -> set[int]:
        """Pages there that are anonymous: they have been written to."""
        found = set()
        for start, end in self.areas(mappings):
            raw = os.pread(self._pagemap, (end - start) // PAGE * 8, start // PAGE * 8)
            entries = array("Q", raw)
            found |= {start + at * PAGE for at, entry in enumerate(entries) if entry >= PRESENT and not entry & FILE}
        return found

    def read(self, start: int, count: int = PAGE) -> bytes:
        return os.pread(self._memory, count, start)


def waits(worker: Worker) -> bool:
    """In recv: what comes after an answer has been done."""
    text = Path(f"/proc/{worker.pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] == "S"


class Subject:
    """One worker, and what it was like before any program."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.first = self.state()
        # What is written on first use has been written after these.
        for _ in range(12):
            assert self.state() == self.first
        wait_until(lambda: waits(worker))
        self.memory = Memory(worker)
        self.mappings = self.memory.mappings()
        self.areas = [(start, self.memory.read(start, end - start)) for start, end in self.memory.areas(self.mappings)]
        self.pages = self.memory.own(self.mappings)
        self.twister = self._twister()

    def state(self) -> str:
        outcome = self.worker.call(program=[])
        assert outcome.status == 200, outcome.answer
        return json.dumps(outcome.json["state"])

    def run(self, statements: list[str]) -> bool:
        """True: the worker ends with it, by a program that crashes or leaves what cannot be undone."""
        self.worker.send(json.dumps({"program": statements}).encode())
        try:
            outcome = self.worker.outcome()
        except EOFError:
            return True
        assert outcome.status in (200, 500), outcome.answer
        return outcome.answer.last

    def memory_differs(self) -> list[str]:
        wait_until(lambda: waits(self.worker))
        mappings = self.memory.mappings()
        if mappings != self.mappings:
            return [f"mappings: {set(mappings) ^ set(self.mappings)}"]
        differing = []
        for page in self.memory.own(mappings) | self.pages:
            now, before = self.memory.read(page), self._before(page)
            if now == before:
                continue
            words = [at for at in range(0, PAGE, 8) if now[at : at + 8] != before[at : at + 8]]
            if any(not self.twister[0] <= page + at < self.twister[1] for at in words):
                differing.append(f"{page:#x}: {len(words)} words")
        return differing

    def _before(self, page: int) -> bytes:
        start, text = self.areas[bisect_right(self.areas, page, key=lambda area: area[0]) - 1]
        return text[page - start : page - start + PAGE]

    def _twister(self) -> tuple[int, int]:
        """Where the generator of `random` lies: the one thing that is new in each invocation."""
        answer = self.worker.call(program=["globals()['FOUND'] = id(random._inst)", "raise ValueError(FOUND)"])
        address = int(answer.json["errors"][0].rpartition(" ")[2])
        return address, address + TWISTER_BYTES


@pytest.fixture
def subjects(start: Start):
    """Gives the present worker; a new one when it has ended."""
    current: list[Subject] = []

    def get(*, new: bool = False) -> Subject:
        if new and current:
            ended = current.pop()
            ended.memory.close()
            ended.worker.channel.close()
        if not current:
            current.append(Subject(start(SOURCE, state="fresh")))
        return current[0]

    yield get
    for subject in current:
        subject.memory.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_program_the_next_invocation_finds_the_first_ones_state(subjects, part: int) -> None:
    reference = subjects().first

    @settings(max_examples=PROGRAMS // PARTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(program)
    def holds(statements: list[str]) -> None:
        subject = subjects()
        if subject.run(statements):
            subject = subjects(new=True)
            assert subject.first == reference
            return
        assert subject.state() == reference
        assert subject.memory_differs() == []

    holds()


DRIFTS = {"generator": 0, "rand": 0}
"""What looking changes."""


@pytest.mark.parametrize("number", range(8))
def test_control_a_warm_worker_sees_each_statement(start: Start, number: int) -> None:
    for text in SEEN[number::8]:
        worker = start(SOURCE)
        before = json.dumps(worker.call(program=[]).json["state"] | DRIFTS)
        worker.call(program=[text.format(n=50)])
        after = worker.call(program=[])
        changed = after.status != 200 or json.dumps(after.json["state"] | DRIFTS) != before
        assert changed, text
