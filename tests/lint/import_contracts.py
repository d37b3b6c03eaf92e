"""Two kinds of import rule for import-linter, used in pyproject.toml under [[tool.importlinter.contracts]].

`only_imports`: a package imports nothing of ours but itself and what is listed. An allow list says what the design says
("gateway.host → gateway.core, gateway.contract") and covers packages that do not exist yet; a list of the forbidden
would not.  `only_importers`: a library is imported by the listed packages alone.
"""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

OURS = ("gateway", "control_plane", "tailcut")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


class OnlyImports(Contract):
    type_name = "only_imports"

    # import-linter turns each field into its value when it reads the contract.
    source: Any = fields.StringField()
    ours: Any = fields.ListField(subfield=fields.StringField(), required=False)
    """Packages of ours, besides the source itself, that it may import."""
    others: Any = fields.ListField(subfield=fields.StringField(), required=False)
    """Third-party packages that it may import; left out: any."""
    optional: Any = fields.BooleanField(required=False)
    """The source need not exist (yet)."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        source = str(self.source)
        modules = [module for module in graph.modules if within(module, source)]
        if not modules and not self.optional:
            raise ValueError(f"the contract names {source}, which does not exist: correct pyproject.toml")
        broken = [
            (importer, imported)
            for importer in sorted(modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not self.allows(source, imported)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def allows(self, source: str, imported: str) -> bool:
        if imported.split(".")[0] in OURS:
            # A package above the source is what Python loads on the way to it.
            is_above = within(source, imported)
            return is_above or any(within(imported, package) for package in (source, *(self.ours or ())))
        if self.others is None or imported.split(".")[0] in sys.stdlib_module_names:
            return True
        return any(within(imported, package) for package in self.others)

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["broken"]:
            output.print_error(f"{importer} imports {imported}, which {self.source} may not import.")
        allowed = ", ".join([*(self.ours or ()), *(self.others or ())]) or "nothing"
        output.print_error(
            f"Besides itself and the standard library it may import: {allowed}. Move the code, or the rule"
        )
        output.print_error("(pyproject.toml, and docs/ARCHITECTURE.md with the reason).")


class OnlyImporters(Contract):
    type_name = "only_importers"

    libraries: Any = fields.ListField(subfield=fields.StringField())
    importers: Any = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken = [
            (importer, library)
            for library in self.libraries
            if library in graph.modules
            for importer in sorted(graph.find_modules_that_directly_import(library))
            if not any(within(importer, package) for package in self.importers)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, library in check.metadata["broken"]:
            output.print_error(
                f"{importer} imports {library}; only {', '.join(self.importers)} may: call that instead."
            )
