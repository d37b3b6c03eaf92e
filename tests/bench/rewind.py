"""What going back to the checkpoint costs: asked of a fresh worker without a jail, through libzigcore's own figures.

Called by ``__main__``. The worker is started by a zygote of its own; `zc_worker_figures` (zigcore.h) says how long the
rewinds have taken in all, and how many pages they copy.
"""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.host import PeerError
from tests.support import frames

_ASK = """
import ctypes
_path = next(line.split()[-1] for line in open("/proc/self/maps") if line.rstrip().endswith("libzigcore.so"))
_figures = ctypes.CDLL(_path).zc_worker_figures

def _asked() -> list[int]:
    found = (ctypes.c_uint64 * 16)()
    _figures(found)
    return list(found)
"""
_JSON = """
def handler(name: str = "bench", ask: bool = False) -> dict:
    if ask:
        return {"figures": _asked()}
    return {"greeting": f"Hello, {name}!"}
"""
_NUMPY = """
import numpy
state = numpy.random.default_rng(1).integers(0, 255, 200_000_000, dtype=numpy.uint8)

def handler(name: str = "bench", ask: bool = False) -> dict:
    if ask:
        return {"figures": _asked()}
    return {"sum": int(state[:1000].sum())}
"""
_WARM_UP = 300


@dataclass(frozen=True, slots=True)
class Rewind:
    rewind_us: float
    hot_pages: float
    invocations: int


def measure(invocations: int) -> tuple[dict[str, Rewind], dict[str, str]]:
    """By handler; and what could not be measured."""
    sources = {"json": _JSON, "numpy": _NUMPY}
    found: dict[str, Rewind] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="tailcut-bench-") as folder:
        Path(folder).chmod(0o755)
        with frames.Zygote(Path(folder), environment={"TAILCUT_JAIL": "off"}) as zygote:
            for name, source in sources.items():
                try:
                    found[name] = _of(zygote, Path(folder) / name, source, invocations)
                except (PeerError, AssertionError, OSError) as error:
                    left_out[f"rewind, {name}"] = str(error)[:500]
    return found, left_out


def _of(zygote: frames.Zygote, code: Path, source: str, invocations: int) -> Rewind:
    code.mkdir()
    (code / "main.py").write_text(_ASK + source)
    if "numpy" in source:
        _lend(code, "numpy")
    connection = zygote.connect()
    try:
        worker = connection.spawn(code, "main:handler", state="fresh", memory_bytes=2 * 2**30)
        ready = worker.first_word()
        if ready.kind != "ready":
            raise PeerError(f"no fresh worker: {ready.body.decode(errors='replace')[:400]}")
        for _ in range(_WARM_UP):
            worker.call()
        before = worker.call(ask=True).json["figures"]
        for _ in range(invocations):
            worker.call()
        after = worker.call(ask=True).json["figures"]
        worker.close()
    finally:
        connection.close()
    rewinds = after[0] - before[0]
    # Order of zc_worker_fresh_figures: generation, scans, mends, rewind_ns, hot_pages, …
    return Rewind((after[3] - before[3]) / max(rewinds, 1) / 1000, float(after[4]), invocations)


def _lend(code: Path, package: str) -> None:
    """The bundle has the package of our own environment."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PeerError(f"{package} is not installed")
    packages = code / "_packages"
    packages.mkdir()
    origin = Path(spec.origin).parent
    (packages / package).symlink_to(origin)
    if (libraries := origin.parent / f"{package}.libs").is_dir():
        (packages / libraries.name).symlink_to(libraries)
