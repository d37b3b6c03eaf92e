"""Some modules of CPython's own suite run in jailed workers; all of the list with `make cpython`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cpython.expected import QUICK
from tests.cpython.suite import judge, run, workers
from tests.support.frames import Connection


@pytest.fixture(scope="module")
def jailed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connection, Path]]:
    with workers(tmp_path_factory.mktemp("cpython")) as made:
        yield made


@pytest.mark.parametrize("module", QUICK)
def test_only_what_is_meant_to_fails_in_a_jail(jailed: tuple[Connection, Path], module: str) -> None:
    outcome = run(*jailed, module)
    # An installation without Lib/test cannot say anything; the runner says that it is one.
    assert outcome.missing or not outcome.wrong, outcome


def test_control_an_unmeant_failure_is_found() -> None:
    meant = {"test.test_random.TestModule.test_after_fork": "PermissionError: [Errno 1] Operation not permitted"}
    assert not judge("test_random", {"run": 100, "bad": meant}).wrong
    assert judge("test_random", {"run": 100, "bad": dict.fromkeys(meant, "AssertionError: 1 != 2")}).wrong
    assert judge("test_random", {"run": 100, "bad": {"test.test_random.Other.test": next(iter(meant.values()))}}).wrong
    assert judge("test_random", {"run": 3, "bad": {}}).wrong
