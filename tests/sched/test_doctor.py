"""What `tailcut-server doctor` says about CPU reservations is what the kernel does."""

import json
import subprocess
import sys

from tests.conftest import server_environment
from tests.sched import kernel
from tests.sched.conftest import wait_for_no_partition


def test_the_doctor_tries_reservations_and_leaves_the_cpu_sets_as_they_were() -> None:
    wait_for_no_partition()
    before = kernel.cpusets()
    found = doctor()
    assert set(found) == {"partition", "deadline", "demotion"}
    expected = "active" if kernel.why_best_effort() is None else "missing"
    assert (found["partition"]["state"], found["deadline"]["state"]) == (expected, expected)
    assert kernel.cpusets() == before


def test_on_one_cpu_it_names_what_is_missing_what_that_costs_and_the_remedy() -> None:
    found = doctor("taskset", "-c", "0")
    for name in ("partition", "deadline"):
        assert found[name]["state"] == "missing"
        assert "one CPU only" in found[name]["refused"]
        assert "best-effort" in found[name]["costs"]
    assert "two CPUs" in found["partition"]["remedy"]


def doctor(*prefix: str) -> dict[str, dict[str, str]]:
    command = [*prefix, sys.executable, "-m", "gateway.doctor", "--json"]
    result = subprocess.run(command, env=server_environment(), capture_output=True, text=True, timeout=120)
    return {line["part"]: line for line in json.loads(result.stdout)["scheduling"]}
