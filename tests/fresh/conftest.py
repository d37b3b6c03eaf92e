"""The workers of tests/worker: a real zygote, real processes."""

from tests.worker.conftest import connection, start, zygote

__all__ = ["connection", "start", "zygote"]
