"""Packaging hook: a wheel (or an editable install) of tailcut-server carries a freshly built libzigcore.so."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))


class ZigcoreBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from build_library import build_declarations, build_library

        build_library()
        build_declarations()
        build_data["infer_tag"] = True
        build_data["pure_python"] = False
