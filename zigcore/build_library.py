"""Builds libzigcore.so with the pinned `ziglang` and its cffi declarations; puts both into gateway/core/.

Called by the packaging hook (hatch_build.py) and by `make setup`: ``python zigcore/build_library.py``.
Zig's own cache makes a build without changes take a moment only.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ZIGCORE = Path(__file__).resolve().parent
CORE_PACKAGE = ZIGCORE.parent / "gateway" / "core"


def build_library() -> None:
    subprocess.run([sys.executable, "-m", "ziglang", "build"], cwd=ZIGCORE, check=True)
    built = ZIGCORE / "zig-out" / "lib" / "libzigcore.so"
    target = CORE_PACKAGE / "libzigcore.so"
    if not target.exists() or target.read_bytes() != built.read_bytes():
        # A new inode: processes that have the old library mapped keep it whole.
        staged = target.with_suffix(".so.new")
        shutil.copyfile(built, staged)
        staged.replace(target)


def build_declarations() -> None:
    """Out-of-line ABI mode: the header is parsed here, once, so that a zygote imports neither cffi nor pycparser."""
    from cffi import FFI  # type: ignore[import-untyped]

    ffi = FFI()
    ffi.cdef((ZIGCORE / "include" / "zigcore.h").read_text())
    ffi.set_source("gateway.core._zigcore_abi", None)
    ffi.emit_python_code(str(CORE_PACKAGE / "_zigcore_abi.py"))


if __name__ == "__main__":
    build_library()
    build_declarations()
