"""How much of a reserved CPU can be sold: what the kernel's own admission test for SCHED_DEADLINE would let pass.

Called once, when the data plane is configured. Measured on Linux 6.18 with its defaults: 0.90 of a CPU is admitted and
0.905 is EBUSY: the bound of sched(7) less what the kernel keeps for ordinary threads (its fair server).
"""

from pathlib import Path

_WHOLE_PPM = 1_000_000
_BOUND_PPM = 950_000
"""The kernel's default, and the most that is sold where the administrator has switched the bound off."""
_FAIR_SERVER_PPM = 50_000


def sellable_ppm(folder: Path = Path("/proc/sys/kernel")) -> int:
    """Of each reserved CPU, in millionths."""
    runtime_us, period_us = (_number(folder / f"sched_rt_{name}_us") for name in ("runtime", "period"))
    bound = _BOUND_PPM
    if runtime_us is not None and period_us and 0 <= runtime_us <= period_us:
        bound = runtime_us * _WHOLE_PPM // period_us
    return max(0, min(bound, _BOUND_PPM) - _FAIR_SERVER_PPM)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
