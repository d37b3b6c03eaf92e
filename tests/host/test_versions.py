"""The life of a version on a node: wanted → fetched → probing → ready | failed; and what aliases serve meanwhile."""

import json
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from gateway.contract.report import StartFailure
from gateway.contract.revision import Revision
from gateway.contract.table import Function, Key, RoutingTable, Tenant, Version
from gateway.host import routing
from gateway.host.bundles import Bundles
from gateway.host.indexes import VERSIONS_MAX, Indexes, OutOfIndexes
from gateway.host.memory import Memory, ReadyRecord, WorkerReadyDocument
from gateway.host.openapi import Documents, TypedFunction
from gateway.host.versions import Stage, Versions

READY = WorkerReadyDocument(style="typed", operation={"summary": "one"}, schemas={"Item": {"type": "object"}})
BROKEN = StartFailure(type="ImportError", message="no module", traceback="Traceback …")
OURS = StartFailure(type="StartTimeout", message="too slow")


def version(number: int, function: str = "f", tenant_id: str = "tnt_1") -> Version:
    return Version(
        id=f"ver_{number}",
        tenant_id=tenant_id,
        function=function,
        bundle_sha256=f"{number:064x}",
        bundle_bytes=10,
        handler="main:handler",
    )


def table(live: int, *numbers: int, revision: int = 1) -> RoutingTable:
    return RoutingTable(
        revision=revision,
        tenants=(Tenant(id="tnt_1", name="acme"),),
        keys=(
            Key(id="key_1", sha256="a" * 64, tenant_id="tnt_1", scopes=("invoke",)),
            Key(id="key_2", sha256="b" * 64, tenant_id="tnt_1", scopes=("read",), expires_at_s=5),
            Key(id="key_3", sha256="c" * 64, tenant_id="tnt_of_nobody", scopes=("admin",)),
        ),
        functions=(Function(tenant_id="tnt_1", name="f", public=False, aliases={"live": f"ver_{live}"}),),
        versions=tuple(version(number) for number in numbers),
    )


def keeper(**changes: float) -> Versions:
    settings = {"fetches_max": 2, "probes_max": 1, "probe_timeout_s": 10.0, "backoff_max_s": 8.0} | changes
    return Versions(**settings)  # type: ignore[arg-type]


def bring_up(versions: Versions, number: int, now: float) -> None:
    versions.want([version(number)], now)
    assert versions.due_fetches(now, set())
    versions.fetched(f"ver_{number}", now)
    versions.begin_probes(now, set())
    assert versions.worker_ready(f"ver_{number}", READY, now)


def test_a_version_goes_through_its_stages_and_is_reported_once() -> None:
    versions = keeper()
    versions.want([version(1)], 1.0)
    state = versions.states["ver_1"]
    assert state.stage is Stage.WANTED
    assert [one.version.id for one in versions.due_fetches(1.0, set())] == ["ver_1"]
    assert versions.due_fetches(1.0, set()) == [], "it is being fetched already"
    versions.fetched("ver_1", 2.0)
    assert state.stage is Stage.FETCHED
    versions.want([version(1)], 3.0)
    versions.begin_probes(3.0, set())
    assert state.stage is Stage.PROBING
    assert versions.worker_ready("ver_1", READY, 3.5)
    assert state.stage is Stage.READY
    assert not versions.worker_ready("ver_1", READY, 4.0), "a second worker changes nothing"
    assert not versions.worker_failed("ver_1", BROKEN, ours=False, now=4.0), "nor does one that fails later"
    (outcome,) = versions.outcomes
    assert (outcome.ready, outcome.start_us, outcome.error) == (READY, 500_000, None)


def test_a_function_at_fault_fails_for_good() -> None:
    versions = keeper()
    versions.want([version(1)], 1.0)
    versions.due_fetches(1.0, set())
    versions.fetched("ver_1", 1.0)
    versions.begin_probes(1.0, set())
    assert versions.worker_failed("ver_1", BROKEN, ours=False, now=2.0)
    for now in (3.0, 100.0, 10_000.0):
        versions.want([version(1)], now)
        versions.begin_probes(now, set())
        assert versions.states["ver_1"].stage is Stage.FAILED
    assert [outcome.error for outcome in versions.outcomes] == [BROKEN]
    assert versions.next_due_s(10_000.0) is None


def test_our_own_fault_is_tried_again_with_back_off_and_reported_at_the_third() -> None:
    versions = keeper()
    now = 1.0
    versions.want([version(1)], now)
    versions.due_fetches(now, set())
    versions.fetched("ver_1", now)
    pauses = []
    for _ in range(6):
        versions.want([version(1)], now)
        versions.begin_probes(now, set())
        assert versions.states["ver_1"].stage is Stage.PROBING
        assert versions.worker_failed("ver_1", OURS, ours=True, now=now)
        pause = versions.next_due_s(now)
        assert pause is not None
        versions.want([version(1)], now + pause / 2)
        versions.begin_probes(now + pause / 2, set())
        assert versions.states["ver_1"].stage is Stage.FETCHED, "not before it is due"
        pauses.append(pause)
        now += pause
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert [outcome.error for outcome in versions.outcomes] == [OURS]
    versions.want([version(1)], now)
    versions.begin_probes(now, set())
    versions.worker_ready("ver_1", READY, now)
    assert [outcome.error for outcome in versions.outcomes] == [OURS, None], "and the good end is reported too"


def deployed_again(number: int) -> Version:
    return version(number).model_copy(update={"attempt": 1})


def test_a_failed_version_that_is_deployed_again_begins_anew_and_is_reported_with_its_attempt() -> None:
    versions = keeper()
    versions.want([version(1)], 1.0)
    versions.due_fetches(1.0, set())
    versions.fetch_failed("ver_1", BROKEN, final=True, now=1.0)
    versions.want([version(1)], 2.0)
    assert versions.due_fetches(2.0, set()) == [], "the same attempt is not tried again"
    versions.outcomes.clear()
    versions.want([deployed_again(1)], 3.0)
    assert versions.due_fetches(3.0, set())
    versions.fetch_failed("ver_1", BROKEN, final=True, now=3.0)
    assert [(one.version.attempt, one.error) for one in versions.outcomes] == [(1, BROKEN)]


def test_deployed_again_a_version_in_back_off_is_tried_at_once_and_a_ready_one_says_so_again() -> None:
    versions = keeper()
    versions.want([version(1)], 1.0)
    for _ in range(5):
        state = versions.states["ver_1"]
        versions.want([version(1)], state.due_s)
        assert versions.due_fetches(state.due_s, set())
        versions.fetch_failed("ver_1", OURS, final=False, now=state.due_s)
    assert versions.due_fetches(state.since_s, set()) == [], "it rests"
    versions.outcomes.clear()
    versions.want([deployed_again(1)], 20.0)
    assert versions.due_fetches(20.0, set())
    versions.fetched("ver_1", 20.0)
    versions.begin_probes(20.0, set())
    versions.worker_ready("ver_1", READY, 21.0)
    versions.want([deployed_again(1).model_copy(update={"attempt": 2})], 22.0)
    assert [(one.version.attempt, one.error) for one in versions.outcomes] == [(1, None), (2, None)]


def test_a_probe_without_an_answer_is_tried_again() -> None:
    versions = keeper(probe_timeout_s=10.0)
    versions.want([version(1)], 1.0)
    versions.due_fetches(1.0, set())
    versions.fetched("ver_1", 1.0)
    versions.begin_probes(1.0, set())
    assert versions.next_due_s(2.0) == 9.0
    versions.begin_probes(12.0, set())
    state = versions.states["ver_1"]
    assert (state.stage, state.error and state.error.type) == (Stage.FETCHED, "ProbeTimeout")


def test_a_fetch_that_is_refused_is_final_and_one_that_is_unavailable_is_not() -> None:
    versions = keeper()
    versions.want([version(1), version(2)], 1.0)
    versions.due_fetches(1.0, set())
    versions.fetch_failed("ver_1", BROKEN, final=True, now=1.0)
    versions.fetch_failed("ver_2", OURS, final=False, now=1.0)
    versions.want([version(1), version(2)], 50.0)
    assert [one.version.id for one in versions.due_fetches(50.0, set())] == ["ver_2"]
    assert versions.states["ver_1"].stage is Stage.FAILED


def test_a_tenant_whose_versions_hang_does_not_keep_another_from_deploying() -> None:
    versions = keeper(fetches_max=4, probes_max=4)
    hanging = [version(number) for number in range(20)]
    versions.want(hanging, 1.0)
    fetched = versions.due_fetches(1.0, set())
    assert len(fetched) == 3
    late = version(99, tenant_id="tnt_2")
    versions.want([*hanging, late], 2.0)
    assert [one.version.id for one in versions.due_fetches(2.0, {one.id for one in hanging})] == ["ver_99"]
    for one in (*fetched, versions.states["ver_99"]):
        versions.fetched(one.version.id, 3.0)
    versions.want([*hanging, late], 3.0)
    versions.begin_probes(3.0, set())
    assert versions.states["ver_99"].stage is Stage.PROBING
    versions.want([*hanging, late, version(100, tenant_id="tnt_2")], 4.0)
    assert "ver_100" in [one.version.id for one in versions.due_fetches(4.0, {one.id for one in hanging})]


def test_bounds_hold_and_versions_that_an_alias_names_go_first() -> None:
    versions = keeper(fetches_max=2, probes_max=1)
    versions.want([version(number) for number in range(1, 6)], 1.0)
    first = versions.due_fetches(1.0, {"ver_5", "ver_3"})
    assert [one.version.id for one in first] == ["ver_3", "ver_5"]
    for state in first:
        versions.fetched(state.version.id, 1.0)
    versions.begin_probes(1.0, {"ver_5"})
    assert versions.states["ver_5"].stage is Stage.PROBING
    assert versions.states["ver_3"].stage is Stage.FETCHED


def test_what_was_ready_before_needs_no_probe_even_when_its_files_have_gone() -> None:
    versions = keeper()
    records = [ReadyRecord(python="3", version=version(number), ready=READY) for number in (1, 2)]
    versions.restore(records, here={version(1).bundle_sha256}, now=1.0)
    assert versions.states["ver_1"].stage is Stage.READY
    versions.want([version(1), version(2)], 1.0)
    assert [one.version.id for one in versions.due_fetches(1.0, set())] == ["ver_2"]
    versions.fetched("ver_2", 1.0)
    assert versions.states["ver_2"].stage is Stage.READY
    versions.lost("ver_1", 2.0)
    assert versions.states["ver_1"].stage is Stage.WANTED


def test_the_old_version_serves_until_the_new_one_is_ready() -> None:
    versions = keeper()
    bring_up(versions, 1, 1.0)
    served = routing.choose(table(1, 1), versions.states, {})
    assert served == {("tnt_1", "f", "live"): "ver_1"}
    wants_2 = table(2, 1, 2)
    versions.want([version(1), version(2)], 2.0)
    served = routing.choose(wants_2, versions.states, served)
    assert served == {("tnt_1", "f", "live"): "ver_1"}
    versions.due_fetches(2.0, set())
    versions.fetched("ver_2", 2.0)
    versions.begin_probes(2.0, set())
    assert routing.choose(wants_2, versions.states, served) == served
    versions.worker_ready("ver_2", READY, 3.0)
    assert routing.choose(wants_2, versions.states, served) == {("tnt_1", "f", "live"): "ver_2"}
    gone = wants_2.model_copy(update={"functions": ()})
    assert routing.choose(gone, versions.states, served) == {}, "a deleted function is served no more"


def build(tmp_path: Path, versions: Versions, wanted: RoutingTable, now: float) -> Revision:
    served = routing.choose(wanted, versions.states, {})
    bundles = Bundles((tmp_path / "store").as_uri(), tmp_path / "versions")
    versions.want(wanted.versions, now)
    url = "http://127.0.0.1:1"
    return routing.build(
        wanted, versions.states, served, Indexes(60), bundles, url, now, routing.VersionRows(), Documents()
    )


def test_rows_that_are_remembered_are_what_they_would_be_anew(tmp_path: Path) -> None:
    versions, rows, indexes, documents = keeper(), routing.VersionRows(), Indexes(60), Documents()
    bundles = Bundles((tmp_path / "store").as_uri(), tmp_path / "versions")
    wanted = table(1, 1, 2)

    def both(wanted: RoutingTable, now: float) -> Revision:
        versions.want(wanted.versions, now)
        served = routing.choose(wanted, versions.states, {})
        made = [
            routing.build(wanted, versions.states, served, indexes, bundles, "http://127.0.0.1:1", now, *each)
            for each in ((rows, documents), (routing.VersionRows(), Documents()))
        ]
        assert made[0] == made[1]
        return made[0]

    bring_up(versions, 1, 1.0)
    first = both(wanted, 2.0)
    # Nothing has changed, and the row is the very same; then its stage, its limits, its tenant's name, who is there.
    assert both(wanted, 3.0).versions[0] is first.versions[0]
    versions.due_fetches(3.0, set())
    versions.fetched("ver_2", 3.0)
    versions.begin_probes(3.0, set())
    assert [row.probe for row in both(wanted, 3.0).versions] == [False, True]
    versions.worker_ready("ver_2", READY, 3.0)
    assert [row.probe for row in both(wanted, 3.0).versions] == [False, False]
    renamed = wanted.model_copy(update={"tenants": (Tenant(id="tnt_1", name="other"),)})
    assert "other" in both(renamed, 4.0).versions[0].spawn
    changed = version(2).model_copy(update={"env": {"A": "1"}})
    assert '"A":"1"' in both(wanted.model_copy(update={"versions": (version(1), changed)}), 5.0).versions[1].spawn
    assert [row.id for row in both(table(1, 1), 6.0).versions] == ["ver_1"]


def test_the_revision_says_what_is_served(tmp_path: Path) -> None:
    versions = keeper()
    bring_up(versions, 1, 1.0)
    versions.want([version(1), version(2), version(3)], 2.0)
    versions.due_fetches(2.0, set())
    versions.fetched("ver_2", 2.0)
    versions.begin_probes(2.0, set())
    versions.fetch_failed("ver_3", BROKEN, final=True, now=2.0)
    revision = build(tmp_path, versions, table(1, 1, 2, 3), 3.0)

    assert [(row.id, row.probe) for row in revision.versions] == [("ver_1", False), ("ver_2", True)]
    spawn = json.loads(revision.versions[0].spawn)
    assert (spawn["tenant"], spawn["function"], spawn["version_id"]) == ("acme", "f", "ver_1")
    assert spawn["code_path"] == str(tmp_path / "versions" / version(1).bundle_sha256)
    index = revision.versions[0].index
    routes = {row.qualifier: (row.version, row.error) for row in revision.routes}
    assert routes == {
        "live": (index, ""),
        "ver_1": (index, ""),
        "ver_2": (-1, ""),
        "ver_3": (-1, "Traceback …"),
    }
    assert [(row.sha256[0], row.tenant, row.invoke, row.expires_at_s) for row in revision.keys] == [
        ("a", 0, True, 0),
        ("b", 0, False, 5),
    ]
    assert msgspec.json.decode(routing.encode(revision))["revision"] == 1


def test_a_function_whose_only_version_failed_says_why_to_its_owner(tmp_path: Path) -> None:
    versions = keeper()
    versions.want([version(1)], 1.0)
    versions.due_fetches(1.0, set())
    versions.fetched("ver_1", 1.0)
    versions.begin_probes(1.0, set())
    versions.worker_failed("ver_1", BROKEN, ours=False, now=1.0)
    revision = build(tmp_path, versions, table(1, 1), 2.0)
    assert revision.versions == []
    assert {(row.qualifier, row.version, row.error) for row in revision.routes} == {
        ("live", -1, "Traceback …"),
        ("ver_1", -1, "Traceback …"),
    }


def test_documents_of_deployments_before_are_not_kept() -> None:
    """Each deployment makes a new one with all functions in it: kept, they grow with the square of their number."""
    documents, deployments = Documents(), 100
    operation = json.dumps({"description": "x" * 2_000}).encode()
    functions = [TypedFunction(f"f{n:03}", True, f"ver_{n}", operation, b"{}") for n in range(deployments)]
    tracemalloc.start()
    try:
        for count in range(1, deployments + 1):
            public, everything = documents.of("http://127.0.0.1:1", {"acme": functions[:count]})["acme"]
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert public == everything
    assert len(public) > deployments * 2_000
    assert held_bytes < 5 * len(public)


def test_openapi_lists_typed_functions_and_keeps_their_schemas_apart(tmp_path: Path) -> None:
    versions = keeper(fetches_max=9, probes_max=9)
    schema = {"$ref": "#/components/schemas/Item"}
    ready = READY.model_copy(
        update={"operation": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}
    )
    functions = []
    for number, (name, public) in enumerate({"open": True, "closed": False}.items()):
        one = version(number, name)
        versions.want([one], 1.0)
        versions.due_fetches(1.0, set())
        versions.fetched(one.id, 1.0)
        versions.begin_probes(1.0, set())
        versions.worker_ready(one.id, ready, 1.0)
        functions.append(Function(tenant_id="tnt_1", name=name, public=public, aliases={"live": one.id}))
    both = table(0).model_copy(
        update={"functions": tuple(functions), "versions": (version(0, "open"), version(1, "closed"))}
    )
    (row,) = build(tmp_path, versions, both, 2.0).tenants
    everything, public_only = json.loads(row.openapi_all), json.loads(row.openapi_public)
    assert set(everything["paths"]) == {"/acme/open", "/acme/closed"}
    assert set(public_only["paths"]) == {"/acme/open"}
    assert "closed" not in row.openapi_public
    operation = everything["paths"]["/acme/closed"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/closed.Item"
    assert everything["components"]["schemas"]["closed.Item"] == {"type": "object"}
    assert operation["security"] == [{"key": []}]
    assert everything["paths"]["/acme/open"]["post"]["security"] == []
    assert {"401", "422", "500", "504"} <= set(operation["responses"])


def test_versions_that_nothing_refers_to_are_forgotten_after_a_while() -> None:
    versions = keeper()
    bring_up(versions, 1, 1.0)
    bring_up(versions, 2, 100.0)
    assert versions.expire(100.0, 200.0) == []
    assert [one.id for one in versions.expire(250.0, 200.0)] == ["ver_1"]
    assert set(versions.states) == {"ver_2"}


def test_an_index_is_stable_and_rests_before_it_names_another_version() -> None:
    indexes = Indexes(rest_s=60.0)
    first, second = indexes.of("ver_1", 0.0), indexes.of("ver_2", 0.0)
    assert first != second
    assert indexes.of("ver_1", 9.0) == first
    indexes.release("ver_1", 10.0)
    assert indexes.name(first) == "ver_1", "an event of an old worker still finds its version"
    assert indexes.of("ver_3", 20.0) not in (first, second)
    assert indexes.of("ver_4", 70.0) == first
    assert indexes.name(first) == "ver_4"
    for number in range(VERSIONS_MAX - 3):
        indexes.of(f"more_{number}", 70.0)
    with pytest.raises(OutOfIndexes):
        indexes.of("one too many", 70.0)


def test_memory_survives_and_damaged_files_are_as_good_as_none(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    first = memory.begin_epoch()
    second = Memory(tmp_path).begin_epoch()
    assert (second.node, second.epoch) == (first.node, first.epoch + 1)
    assert second.number == first.node << 32 | second.epoch
    serving = {("tnt_1", "f", "live"): "ver_1"}
    memory.save_serving(serving)
    memory.save_table(table(1, 1).model_dump_json().encode())
    memory.save_ready(version(1), READY, 5)
    again = Memory(tmp_path)
    assert again.load_serving() == serving
    assert again.load_table() == table(1, 1)
    assert [(record.version, record.ready) for record in again.load_ready()] == [(version(1), READY)]
    for path in [*tmp_path.glob("*.json"), *tmp_path.glob("ready/*.json")]:
        path.write_bytes(path.read_bytes()[:-4])
    assert again.load_serving() == {}
    assert again.load_table() is None
    assert list(again.load_ready()) == []
    assert again.begin_epoch().epoch == 1
