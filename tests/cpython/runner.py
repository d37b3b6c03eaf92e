"""Deployed as main.py: runs one module of CPython's own test suite in its worker, and says what became of each test."""

import os
import sys
import unittest


class Result(unittest.TestResult):
    """Keeps the last line of what went wrong, by test."""

    def __init__(self):
        super().__init__()
        self.bad = {}

    def note(self, test, error):
        self.bad[test.id()] = f"{error[0].__name__}: {error[1]}".replace("\n", " ")[:300]

    def addError(self, test, error):  # noqa: N802 (unittest's name)
        super().addError(test, error)
        self.note(test, error)

    def addFailure(self, test, error):  # noqa: N802
        super().addFailure(test, error)
        self.note(test, error)

    def addSubTest(self, test, subtest, error):  # noqa: N802
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note(test, error)

    def addUnexpectedSuccess(self, test):  # noqa: N802
        super().addUnexpectedSuccess(test)
        self.bad[test.id()] = "unexpected success"


def handler(module: str) -> dict:
    try:
        import test.support
    except ImportError:
        return {"missing": "this installation of CPython has no test suite (Lib/test)"}
    os.chdir("/tmp")
    test.support.use_resources = []
    test.support.verbose = False
    result = Result()
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
    except unittest.SkipTest as error:
        return {"skipped_whole": str(error)}
    suite.run(result)
    sys.stdout.flush()
    return {"run": result.testsRun, "skipped": len(result.skipped), "bad": result.bad}
