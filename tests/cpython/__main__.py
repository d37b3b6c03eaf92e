"""``make cpython``: every module of the list, with what fails and why that is meant. 1: something else fails."""

import sys
import tempfile
from pathlib import Path

from tests.cpython.expected import LONG, QUICK
from tests.cpython.suite import run, workers


def main() -> int:
    failed = False
    with tempfile.TemporaryDirectory() as name, workers(Path(name)) as (connection, bundle):
        for module in (*QUICK, *LONG):
            outcome = run(connection, bundle, module)
            if outcome.missing:
                print(outcome.missing)
                return 1
            print(f"{module}: {outcome.run} tests, {sum(map(len, outcome.meant.values()))} fail as they must")
            for why, tests in outcome.meant.items():
                print(f"    {len(tests)} {why}")
            for test, message in outcome.wrong.items():
                print(f"    WRONG {test}: {message}")
            failed = failed or bool(outcome.wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
