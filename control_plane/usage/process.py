"""The process that books usage: beside the control plane, so that it holds up no answer, and behind everything else.

Called by ``__main__`` before anything runs. Booking is CPU work for each single invocation. In the control plane's own
interpreter it would make every request wait; as a thread with a low priority it would do so while it holds the
interpreter and is not scheduled. So it is a process of its own (forked, which costs no second import), at nice 10:
while the data plane wants the CPUs it gets little of them (``courtesy``), and the journal waits (docs/decisions/0020).

Two generations: a keeper without threads forks the worker anew when it has died. Both end with their parents, however
those end.
"""

import asyncio
import ctypes
import gc
import os
import signal
import sys
import time
from typing import Final

import structlog
from redis.asyncio import Redis

from control_plane.database import Database
from control_plane.settings import Settings
from control_plane.usage.consumer import UsageConsumer
from control_plane.usage.retention import Retention

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_NICE: Final = 10
_GC_THRESHOLD: Final = 50_000
"""A run makes thousands of tuples that form no cycles; looking through them all the time costs a quarter more."""
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_LAST_S: Final = 10.0
_HEALTHY_S: Final = 30.0


def start(settings: Settings) -> None:
    """Forks: to be called while this process has one thread and nothing open."""
    if not settings.redis_url:
        return
    parent = os.getpid()
    if os.fork() == 0:
        _ending_with(parent)
        try:
            _keep(settings)
        finally:
            os._exit(1)


def _keep(settings: Settings) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    backoff_s = _BACKOFF_FIRST_S
    while True:
        keeper = os.getpid()
        began_s = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _ending_with(keeper)
            try:
                _work(settings)
            except BaseException as error:
                log.error("usage-process-failed", exc_info=error)
            finally:
                sys.stderr.flush()
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        if time.monotonic() - began_s > _HEALTHY_S:
            backoff_s = _BACKOFF_FIRST_S
        log.warning("usage-process-ended", pid=pid, exit=os.waitstatus_to_exitcode(status), restart_s=backoff_s)
        time.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, _BACKOFF_LAST_S)


def _work(settings: Settings) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    log.info("usage-process", pid=os.getpid(), nice=_NICE)
    asyncio.run(_consume(settings))


async def _consume(settings: Settings) -> None:
    database = Database(settings.effective_database_url)
    redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2, socket_timeout=5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(UsageConsumer(database, redis).run())
        tasks.create_task(Retention(database).run())


def _ending_with(parent: int) -> None:
    """Die with it: a consumer of a control plane that has gone would go on beside its successor's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was quicker
        os._exit(0)
