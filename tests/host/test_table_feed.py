"""The table from a real Redis that comes and goes, and the reports on their way back."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.contract.report import KEY_USES_FIELD, REPORT_FIELD, REPORT_STREAM, KeyUses, VersionReport
from gateway.contract.table import NEWEST_KEPT_S, NEWEST_KEY, REVISION_CHANNEL, TABLE_KEY, RoutingTable
from gateway.host.key_uses import KeyUseFeed
from gateway.host.reports import Reports
from gateway.host.table_feed import TableFeed
from gateway.settings import HostSettings
from tests.support.valkey import Valkey

HANG_S = 60.0


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as running:
        yield running


class Followed:
    """A feed that runs, and what it brought."""

    def __init__(self, valkey: Valkey, folder: Path, revision: int = -1, **settings: object) -> None:
        self.tables: list[RoutingTable] = []
        self.connections = 0
        self.reports = Reports(folder / "reports.json", 10)
        all_settings = HostSettings(
            listen_fds=(),
            reactor_cpus=(),
            zygote_path="",
            data_dir=folder,
            redis_url=valkey.url,
            **settings,  # type: ignore[arg-type]
        )
        self.newest: list[tuple[int, float]] = []
        self.uses: dict[str, int] = {}
        self.key_uses = KeyUseFeed(self._uses, "node-1")
        self.feed = TableFeed(
            all_settings, self.reports, self.key_uses, revision, self._take, self._newest, self._connected
        )

    def _uses(self) -> dict[str, int]:
        uses, self.uses = self.uses, {}
        return uses

    def _newest(self, revision: int, ago_s: float) -> None:
        self.newest.append((revision, ago_s))

    def _take(self, table: RoutingTable, document: bytes) -> None:
        assert RoutingTable.model_validate_json(document) == table
        self.tables.append(table)

    def _connected(self) -> None:
        self.connections += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():  # noqa: ASYNC110 - Redis sets no Event
                await asyncio.sleep(0.01)

    @property
    def revisions(self) -> list[int]:
        return [table.revision for table in self.tables]


def follow(followed: Followed, scenario: Callable[[Followed], Awaitable[None]]) -> None:
    async def run() -> None:
        task = asyncio.create_task(followed.feed.run())
        try:
            await scenario(followed)
            assert not task.done(), "the feed never ends by itself"
        finally:
            task.cancel()

    asyncio.run(run())


def publish(valkey: Valkey, revision: int, *, message: bool = True) -> None:
    client = valkey.client()
    client.set(TABLE_KEY, RoutingTable(revision=revision).model_dump_json())
    if message:
        client.publish(REVISION_CHANNEL, revision)


def test_a_message_brings_a_table_and_so_does_time_when_the_message_is_lost(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.revisions == [1])
        await followed.until(lambda: followed.feed.connected)
        publish(valkey, 2)
        await followed.until(lambda: followed.revisions == [1, 2])
        publish(valkey, 3, message=False)
        await followed.until(lambda: followed.revisions == [1, 2, 3])

    follow(Followed(valkey, tmp_path, table_poll_interval=timedelta(milliseconds=100)), scenario)


def test_redis_goes_and_comes_back(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.feed.connected)
        valkey.kill()
        await followed.until(lambda: not followed.feed.connected)
        valkey.start()
        publish(valkey, 2)
        await followed.until(lambda: followed.revisions == [1, 2])
        await followed.until(lambda: followed.connections == 2)

    follow(Followed(valkey, tmp_path), scenario)


def test_an_older_table_is_taken_only_when_it_stays(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 3)
    poll = timedelta(milliseconds=50)

    async def glitch(followed: Followed) -> None:
        await followed.until(lambda: followed.feed.connected)
        await asyncio.sleep(0.3)
        assert followed.revisions == []
        publish(valkey, 8)
        await followed.until(lambda: followed.revisions == [8])

    follow(Followed(valkey, tmp_path, revision=7, table_poll_interval=poll), glitch)
    publish(valkey, 3)

    async def restored(followed: Followed) -> None:
        await followed.until(lambda: followed.revisions == [3])

    patience = timedelta(milliseconds=300)
    follow(Followed(valkey, tmp_path, revision=7, table_poll_interval=poll, table_older_patience=patience), restored)


def test_a_damaged_table_changes_nothing(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.revisions == [1])
        for damaged in (b"", b"{", b"[]", b'{"revision": "x"}', b'{"revision": 9, "unknown": 1}'):
            valkey.client().set(TABLE_KEY, damaged)
            valkey.client().publish(REVISION_CHANNEL, 9)
        valkey.client().delete(TABLE_KEY)
        publish(valkey, 2)
        await followed.until(lambda: followed.revisions == [1, 2])

    follow(Followed(valkey, tmp_path), scenario)


def report(number: int, outcome: str = "ready") -> VersionReport:
    return VersionReport.model_validate({"node": "node-1", "version_id": f"ver_{number}", "outcome": outcome})


def test_reports_wait_for_redis_over_a_restart_and_the_last_word_on_a_version_counts(
    valkey: Valkey, tmp_path: Path
) -> None:
    before = Reports(tmp_path / "reports.json", 10)
    before.add([report(1, "failed"), report(2)])
    before.add([report(1, "ready")])

    async def scenario(followed: Followed) -> None:
        assert followed.reports.waiting == 2
        await followed.until(lambda: followed.reports.waiting == 0)
        followed.reports.add([report(3)])
        await followed.until(lambda: followed.reports.waiting == 0)

    follow(Followed(valkey, tmp_path), scenario)
    entries = valkey.client().xrange(REPORT_STREAM)
    found = [json.loads(fields[REPORT_FIELD.encode()]) for _, fields in entries]  # type: ignore[union-attr]
    assert [(one["version_id"], one["outcome"]) for one in found] == [
        ("ver_2", "ready"),
        ("ver_1", "ready"),
        ("ver_3", "ready"),
    ]
    assert Reports(tmp_path / "reports.json", 10).waiting == 0


def test_too_many_reports_push_out_the_oldest(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "reports.json", 3)
    reports.add([report(number) for number in range(5)])
    assert [one.version_id for one in Reports(tmp_path / "reports.json", 3).batch()] == ["ver_2", "ver_3", "ver_4"]


def test_what_is_the_newest_is_told_with_its_age(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.revisions == [1])
        await followed.until(lambda: followed.feed.connected)
        assert followed.newest == [], "that a table lies in Redis says nothing"
        valkey.client().set(NEWEST_KEY, 7, px=(NEWEST_KEPT_S - 100) * 1000)
        await followed.until(lambda: bool(followed.newest))
        revision, ago_s = followed.newest[0]
        assert revision == 7
        assert ago_s >= 100
        for nonsense in ("", "x", "-1", "1.5"):
            valkey.client().set(NEWEST_KEY, nonsense, px=1_000_000)
        valkey.client().set(NEWEST_KEY, 8)  # without an end it says nothing about when
        publish(valkey, 2)
        await followed.until(lambda: followed.revisions == [1, 2])
        assert {revision for revision, _ in followed.newest} == {7}

    follow(Followed(valkey, tmp_path, table_poll_interval=timedelta(milliseconds=50)), scenario)


def test_uses_of_keys_wait_for_redis_and_the_latest_is_told(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)

    def told() -> dict[str, int]:
        entries = valkey.client().xrange(REPORT_STREAM)
        found = [fields.get(KEY_USES_FIELD.encode()) for _, fields in entries]  # type: ignore[union-attr]
        reports = [KeyUses.model_validate_json(each) for each in found if each is not None]
        assert all(report.node == "node-1" for report in reports)
        return {key_id: used_s for report in reports for key_id, used_s in report.used_s.items()}

    async def scenario(followed: Followed) -> None:
        followed.uses = {"key_a": 10}
        await followed.until(lambda: told() == {"key_a": 10})
        valkey.kill()
        await followed.until(lambda: not followed.feed.connected)
        for uses in ({"key_a": 12, "key_b": 13}, {"key_a": 11}):
            followed.uses = uses
            followed.key_uses.collect()
        followed.uses = {f"key_{number}": number for number in range(1, 2_500)}
        valkey.start()
        await followed.until(lambda: len(told()) == 2 + 2_499)
        assert (told()["key_a"], told()["key_b"], told()["key_2499"]) == (12, 13, 2_499)

    follow(Followed(valkey, tmp_path, key_use_interval=timedelta(milliseconds=50)), scenario)
