"""Bundles for the tests: a manifest and a module in a zip archive."""

import io
import json
import sys
import zipfile

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def bundle(answer: object = 1, *, files: dict[str, bytes] | None = None, **manifest: object) -> bytes:
    """Different ``answer``, different bytes, another version."""
    output = io.BytesIO()
    document = {"handler": "main:handle", "python": PYTHON, **manifest}
    contents = {"main.py": f"def handle():\n    return {answer!r}\n".encode()} if files is None else files
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"tailcut.json": json.dumps(document).encode(), **contents}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return output.getvalue()
