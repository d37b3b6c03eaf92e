"""How long booking rests: never without need, never for ever."""

import os
import subprocess
import sys
import time

import pytest

from control_plane.usage.courtesy import LAG_MAX_S, PAUSE_MAX_S, SHARE, Courtesy, rest_s


def test_alone_on_its_cpu_it_does_not_rest() -> None:
    assert rest_s(ran_s=0.05, waited_s=0.001, lag_s=5) == 0


def test_beside_others_it_takes_its_share() -> None:
    ran_s = 0.05

    assert ran_s / (ran_s + rest_s(ran_s, waited_s=0.2, lag_s=5)) == pytest.approx(SHARE)


def test_a_rest_ends() -> None:
    assert rest_s(ran_s=60, waited_s=60, lag_s=5) == PAUSE_MAX_S


def test_old_records_are_booked_whoever_else_wants_the_cpu() -> None:
    assert rest_s(ran_s=0.05, waited_s=0.2, lag_s=LAG_MAX_S + 1) == 0


def test_who_waits_for_a_cpu_is_noticed() -> None:
    everywhere = os.sched_getaffinity(0)
    rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        cpu = {min(everywhere)}
        for rival in rivals:
            os.sched_setaffinity(rival.pid, cpu)
        os.sched_setaffinity(0, cpu)
        courtesy = Courtesy()
        courtesy.pause_s(0)
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            pass

        assert courtesy.pause_s(lag_s=0) > 0
    finally:
        os.sched_setaffinity(0, everywhere)
        for rival in rivals:
            rival.kill()
            rival.wait()
