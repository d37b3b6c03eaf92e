"""What somebody gives on the dashboard becomes a bundle: pasted code, one .py file, or a zip of sources.

Called by ``dashboard.deploy_pages``, in a thread. What always holds: a zip is read by the strict reader of bundles
(``gateway.contract.archive``) within the bounds below; no code of a tenant is imported or parsed; the same input gives
the same bytes. A zip that has a ``tailcut.json`` is a bundle already (of ``tailcut deploy``) and stays as it is.
"""

import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from control_plane.bundles.check import refused
from gateway.contract import archive
from gateway.contract.bundle import MANIFEST_NAME, Manifest

CODE_BYTES_MAX: Final = 256 * 1024
"""Pasted, or in the file that the handler is looked for in."""
FILES_MAX: Final = 2_000
UNPACKED_BYTES_MAX: Final = 32 * 2**20
"""Of a zip without dependencies; one with them is made by ``tailcut deploy``."""
SOURCES: Final = archive.Bounds(unpacked_bytes_max=UNPACKED_BYTES_MAX, files_max=FILES_MAX)
ENTRY_MODULES: Final = ("main", "app", "function", "handler")
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_FUNCTION: Final = re.compile(r"^(?:async[ \t]+)?def[ \t]+([A-Za-z]\w{0,99})[ \t]*[(\[]", re.MULTILINE | re.ASCII)
_FOREIGN: Final = ("__MACOSX/", "__pycache__/")
"""What archivers add by themselves."""


def pack(files: Mapping[str, bytes], manifest: Manifest, target: Path) -> None:
    """Sorted names, one time, one mode: the same code is the same version."""
    contents = dict(files) | {MANIFEST_NAME: manifest.model_dump_json().encode()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as output:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            output.writestr(entry, contents[name])


def is_bundle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return archive.read_listing(file, archive.DEFAULT_BOUNDS).find(MANIFEST_NAME) is not None
    except archive.BadArchive as error:
        raise refused(str(error.reason), str(error)) from None


def read_zip(path: Path) -> dict[str, bytes]:
    """Path → content; without a single folder around everything, as many archivers make it. Raises Problem."""
    files: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            for entry in archive.read_listing(file, SOURCES).entries:
                is_foreign = any(entry.path.startswith(name) or f"/{name}" in entry.path for name in _FOREIGN)
                if not entry.is_folder and not is_foreign:
                    files[entry.path] = b"".join(archive.read_entry(file, entry))
    except archive.BadArchive as error:
        raise refused(str(error.reason), str(error)) from None
    tops = {name.partition("/")[0] for name in files}
    if len(tops) == 1 and all("/" in name for name in files):
        files = {name.partition("/")[2]: content for name, content in files.items()}
    if not files:
        raise refused("files-missing", "The archive has no file; put main.py into it, at its top.")
    return files


def copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def guess_handler(files: Mapping[str, bytes], said: str) -> str:
    """``module:function``: what was said, completed, or the one that fits. Raises Problem that names the candidates."""
    if ":" in said:
        return said
    module = _module(files)
    code = files[f"{module}.py"][:CODE_BYTES_MAX].decode("utf-8", "replace")
    if said:
        return f"{module}:{said}"
    found = list(dict.fromkeys(_FUNCTION.findall(code)))
    for name in ("handler", "main"):
        if name in found:
            return f"{module}:{name}"
    if len(found) == 1:
        return f"{module}:{found[0]}"
    if not found:
        raise refused("handler-missing", f"{module}.py defines no function; write one, like: def hello(name: str): …")
    raise refused(
        "handler-unclear",
        f"{module}.py defines {len(found)} functions: {', '.join(found[:8])}. Say which one is to be called.",
    )


def _module(files: Mapping[str, bytes]) -> str:
    modules = [name.removesuffix(".py") for name in files if name.endswith(".py") and "/" not in name]
    usable = [name for name in modules if name.isidentifier() and name.isascii()]
    for name in ENTRY_MODULES:
        if name in usable:
            return name
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise refused("handler-missing", "There is no Python file at the top; name it main.py.")
    raise refused(
        "handler-unclear",
        f"There are {len(usable)} Python files at the top: {', '.join(sorted(usable)[:8])}. Say which function is to "
        f"be called, like {sorted(usable)[0]}:handler, or name one main.py.",
    )
