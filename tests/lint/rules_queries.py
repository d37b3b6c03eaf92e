"""Every query says whose rows it means: a filter by tenant (or by person), or a line in crossings.toml with a reason.

What is looked at: each function of control_plane that begins a query (select, update, delete, Session.get) on a table
that has an owner. Which tables have one is read from the models: a column ``tenant_id``, or ``person_id``. A function
is good when it compares that very column of that very table with ``tenant_id`` (``person_id``), its own argument or an
attribute of that name. This finds the query that somebody forgot to scope, not one that is written to deceive.
"""

import ast
import tomllib
from collections.abc import Iterator

from tests.lint.repository import Finding, Repository, rule
from tests.lint.rules_python import parsed

CROSSINGS_PATH = "tests/lint/crossings.toml"
MODELS = "control_plane/models/"
LEFT_OUT = (MODELS, "control_plane/migrations/")
OWNERS = ("tenant_id", "person_id")
BEGINNINGS = {"select", "update", "delete"}
FIX = "filter by {owner} in the same function, or list the function with its reason in " + CROSSINGS_PATH


@rule
def tenant_filter(repository: Repository) -> Iterator[Finding]:
    owned = owned_models(repository)
    crossings = {
        entry["function"] for entry in tomllib.loads(repository.files.get(CROSSINGS_PATH, "")).get("crossing", [])
    }
    used: set[str] = set()
    for path, text in repository.matching(".py", under="control_plane/"):
        if path.startswith(LEFT_OUT):
            continue
        for function in functions_of(parsed(text)):
            for model, line in sorted(queried(function, owned), key=lambda each: each[1]):
                columns = owned.get(model, {"tenant_id"})
                if any(is_compared(function, model, column) for column in columns):
                    continue
                name = f"{path}::{function.name}"
                if name in crossings:
                    used.add(name)
                    continue
                owner = " or ".join(sorted(columns))
                yield Finding(
                    path, line, f"{function.name} reads or writes {model} of everybody: {FIX.format(owner=owner)}"
                )
    for name in sorted(crossings - used):
        yield Finding(CROSSINGS_PATH, 1, f"{name} crosses nothing: remove the entry")


def owned_models(repository: Repository) -> dict[str, set[str]]:
    """Class → the columns that say whose a row is."""
    owned: dict[str, set[str]] = {}
    for _, text in repository.matching(".py", under=MODELS):
        for node in parsed(text).body:
            if isinstance(node, ast.ClassDef):
                columns = {
                    each.target.id
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                }
                if columns & set(OWNERS):
                    owned[node.name] = columns & set(OWNERS)
    return owned


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def queried(function: ast.AST, owned: dict[str, set[str]]) -> set[tuple[str, int]]:
    """Owned models (and variables that may hold one) that a query of the function begins with, each with its line."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in BEGINNINGS:
                roots = [root_of(argument) for argument in arguments]
            case ast.Call(func=ast.Attribute(attr="select_from"), args=arguments):
                roots = [root_of(argument) for argument in arguments]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="session"), attr="get"), args=[first, *_]):
                roots = [root_of(first)]
            case _:
                continue
        for root in roots:
            is_variable = root is not None and root.islower() and root == "model"
            if root is not None and (root in owned or is_variable):
                found.add((root, node.lineno))
    return found


def root_of(node: ast.expr) -> str | None:
    """``Key`` of ``Key``, ``Key.id`` and ``func.count(Key.id)``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value):
            return root_of(value)
        case ast.Call(args=[first, *_]):
            return root_of(first)
    return None


def is_compared(function: ast.AST, model: str, column: str) -> bool:
    """``Model.column == column``, or with an attribute of that name, or ``.in_`` of it."""
    for node in ast.walk(function):
        match node:
            case ast.Compare(
                left=ast.Attribute(value=ast.Name(id=left), attr=attribute), ops=[ast.Eq()], comparators=[right]
            ) if left == model and attribute == column:
                match right:
                    case ast.Name(id=name) | ast.Attribute(attr=name) if name == column:
                        return True
    return False
