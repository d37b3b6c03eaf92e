"""Is this archive a bundle? The archive itself strictly (``gateway.contract.archive``), then what it must contain.

Called by ``functions.service`` in a thread: reading up to 256 MiB takes a second. Hostile input ends in ``Problem``
with the reason as a word (``reason``) and as a sentence (``detail``).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from control_plane.problems import Problem
from gateway.contract import archive
from gateway.contract.bundle import MANIFEST_NAME, PACKAGES_FOLDER, Manifest

MANIFEST_BYTES_MAX: Final = 256 * 1024
ENVIRONMENT_BYTES_MAX: Final = 32 * 1024
"""As JSON: it must fit into the spawn document (``limits.zig``: spawn_bytes_max)."""
LOCK_LINES_MAX: Final = 1000
LOCK_LINE_CHARACTERS_MAX: Final = 200
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_HANDLER_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    manifest: Manifest
    files_count: int
    unpacked_bytes: int


def check_bundle(path: Path, *, runtime_python: str) -> CheckedBundle:
    try:
        listing = archive.verify(path)
        manifest = _read_manifest(path, listing)
    except archive.BadArchive as error:
        raise refused(str(error.reason), str(error)) from None
    _check_manifest(manifest, runtime_python)
    _check_handler(manifest.handler, listing)
    return CheckedBundle(manifest, len(listing.entries), listing.unpacked_bytes)


def refused(reason: str, sentence: str, **members: Any) -> Problem:
    return Problem("bundle-refused", sentence, reason=reason, **members)


def _read_manifest(path: Path, listing: archive.Listing) -> Manifest:
    entry = listing.find(MANIFEST_NAME)
    if entry is None or entry.is_folder:
        raise refused("manifest-missing", f"The archive has no file {MANIFEST_NAME} at its top; deploy with 'tailcut'.")
    if entry.unpacked_bytes > MANIFEST_BYTES_MAX:
        raise refused(
            "manifest-invalid", f"{MANIFEST_NAME} has {entry.unpacked_bytes} bytes; at most {MANIFEST_BYTES_MAX}."
        )
    content = archive.read_file(path, entry, MANIFEST_BYTES_MAX)
    try:
        # json, not pydantic's parser: it tells a repeated name, of which two readers might take different ones.
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
        return Manifest.model_validate_json(json.dumps(document))
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)[:20]
        ]
        sentence = f"{MANIFEST_NAME} is not valid: {errors[0]['field'] or 'document'}: {errors[0]['message']}."
        raise refused("manifest-invalid", sentence, errors=errors) from None
    except (ValueError, RecursionError) as error:
        raise refused("manifest-invalid", f"{MANIFEST_NAME} is not a JSON document: {str(error)[:200]}.") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return result


def _check_manifest(manifest: Manifest, runtime_python: str) -> None:
    if manifest.python != runtime_python:
        raise refused(
            "python-version",
            f"The bundle was built for Python {manifest.python}; functions run on {runtime_python} here. Deploy again.",
        )
    if len(manifest.handler) > _HANDLER_CHARACTERS_MAX or not manifest.handler.isascii():
        raise refused(
            "manifest-invalid", f"The handler must be ASCII and have at most {_HANDLER_CHARACTERS_MAX} characters."
        )
    for name, value in manifest.env.items():
        if not _ENVIRONMENT_NAME.match(name) or "\0" in value:
            raise refused(
                "environment", f"The environment variable {ascii(name)[:140]} has a name or value that none can have."
            )
    environment_bytes = len(json.dumps(manifest.env))
    if environment_bytes > ENVIRONMENT_BYTES_MAX:
        raise refused(
            "environment", f"The environment has {environment_bytes} bytes as JSON; at most {ENVIRONMENT_BYTES_MAX}."
        )
    if len(manifest.lock) > LOCK_LINES_MAX or any(len(line) > LOCK_LINE_CHARACTERS_MAX for line in manifest.lock):
        raise refused(
            "manifest-invalid",
            f"lock may have {LOCK_LINES_MAX} lines of {LOCK_LINE_CHARACTERS_MAX} characters each.",
        )


def _check_handler(handler: str, listing: archive.Listing) -> None:
    """The module's file must be there; whether it has the attribute is known when a worker imports it."""
    module = handler.partition(":")[0]
    place = module.replace(".", "/")
    extension = re.compile(re.escape(place) + r"\.[\w.-]*so\Z")
    for entry in listing.entries:
        path = entry.path.removeprefix(f"{PACKAGES_FOLDER}/")
        if not entry.is_folder and (path in (f"{place}.py", f"{place}/__init__.py") or extension.match(path)):
            return
    raise refused(
        "handler-missing",
        f"The handler {handler!r} needs a file {place}.py (or {place}/__init__.py) in the archive; there is none.",
    )
