"""What there is to deploy: a file or a folder, its settings, and guesses where they are unambiguous.

Settings come from the call (the command line) first, then from ``tailcut.toml`` or ``[tool.tailcut]`` of
``pyproject.toml`` in the folder. A guess is made only if exactly one answer fits; otherwise the error names the
candidates. Reads files, imports nothing of the project: the handler is found in the syntax tree. Called by _deploy.
"""

import ast
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tailcut._errors import ProjectError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]|[a-z]")
HANDLER_PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
ENV_NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

TIMEOUT_MIN = timedelta(milliseconds=10)
TIMEOUT_MAX = timedelta(minutes=15)
SIZES: Mapping[str, tuple[int, int]] = {
    "memory": (16 * 2**20, 64 * 2**30),
    "tmp": (2**20, 16 * 2**30),
    "output": (1, 6 * 2**20),
    "log": (0, 2**20),
}
"""Bytes, from and to; what a tier allows may be less, and is then what holds."""
OPEN_FILES_MIN, OPEN_FILES_MAX = 16, 4_096
PROCESSES_MIN, PROCESSES_MAX = 1, 512
CONCURRENCY_MIN, CONCURRENCY_MAX = 1, 256
WORKERS_MIN_MIN, WORKERS_MIN_MAX = 0, 16
STATES = ("fresh", "warm", "forked")

ENTRY_MODULES = ("main", "app", "function")
NO_ENTRY_MODULES = re.compile(r"setup|conftest|test_.*|.*_test|__.*__")
HANDLER_NAME = "handler"


@dataclass(frozen=True, slots=True)
class Settings:
    """None and empty mean: not said."""

    name: str | None = None
    handler: str | None = None
    timeout: timedelta | None = None
    concurrency: int | None = None
    workers_min: int | None = None
    state: str | None = None
    public: bool | None = None
    alias: str | None = None
    cpu: timedelta | None = None
    memory: int | None = None
    """``memory``, ``tmp``, ``output``, ``log``: bytes."""
    tmp: int | None = None
    output: int | None = None
    log: int | None = None
    open_files: int | None = None
    processes: int | None = None
    network: bool | None = None
    exclude: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that is decided before the server is asked."""

    path: Path
    name: str
    handler: str
    settings: Settings

    @property
    def folder(self) -> Path | None:
        return self.path if self.path.is_dir() else None


def load(path: Path, given: Settings) -> Project:
    """The project at ``path``, with ``given`` over what its own files say."""
    if not path.exists():
        raise ProjectError(f"there is nothing at {path}", hint="give the path of a .py file or of a folder")
    path = path.resolve()
    if not path.is_dir() and path.suffix != ".py":
        raise ProjectError(f"{path} is neither a .py file nor a folder")
    settings = _over(given, read_settings(path) if path.is_dir() else Settings())
    name = _checked_name(settings.name or _guess_name(path), said=settings.name is not None)
    handler = _checked_handler(settings.handler, path) if settings.handler else guess_handler(path)
    check(settings)
    return Project(path=path, name=name, handler=handler, settings=settings)


def guess_handler(path: Path) -> str:
    """``module:function`` if exactly one fits."""
    module = _guess_module(path) if path.is_dir() else path
    if not module.stem.isidentifier():
        raise ProjectError(
            f"{module.name} cannot be imported: {module.stem!r} is no Python identifier", hint="rename the file"
        )
    functions = _public_functions(module)
    if HANDLER_NAME in functions:
        return f"{module.stem}:{HANDLER_NAME}"
    if len(functions) == 1:
        return f"{module.stem}:{functions[0]}"
    if not functions:
        raise ProjectError(
            f"{module.name} defines no public function", hint=f"define one, or say which: --handler {module.stem}:NAME"
        )
    raise ProjectError(
        f"{module.name} defines {len(functions)} public functions, and none is called {HANDLER_NAME!r}: "
        + ", ".join(functions),
        hint=f"say which one: --handler {module.stem}:{functions[0]}, or start the names of the others with _",
    )


def read_settings(folder: Path) -> Settings:
    """``tailcut.toml``, or ``[tool.tailcut]`` of ``pyproject.toml``."""
    own, shared = folder / "tailcut.toml", folder / "pyproject.toml"
    table = read_toml(shared).get("tool", {}).get("tailcut") if shared.is_file() else None
    if own.is_file():
        if table is not None:
            raise ProjectError(
                f"settings stand both in {own.name} and in [tool.tailcut] of {shared.name}", hint="keep one of them"
            )
        return _settings(read_toml(own), own.name)
    if table is None:
        return Settings()
    where = f"[tool.tailcut] of {shared.name}"
    if not isinstance(table, dict):
        raise ProjectError(f"{where} is {table!r}, not a table")
    return _settings(table, where)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path} is no valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {error}") from None


def parse_duration(text: str, what: str = "timeout") -> timedelta:
    """``500ms``, ``3s``, ``1.5s``, ``2m``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|min)", text.strip())
    if not match:
        raise ProjectError(f"{what} is {text!r}; it is a number and a unit: 500ms, 3s or 2m")
    amount = float(match[1])
    match match[2]:
        case "ms":
            return timedelta(milliseconds=amount)
        case "s":
            return timedelta(seconds=amount)
        case _:
            return timedelta(minutes=amount)


def parse_size(text: str, what: str = "memory") -> int:
    """Bytes of ``128MiB``, ``512KiB``, ``1GiB``, ``1000B``; decimal units (``128MB``) too."""
    match = re.fullmatch(r"([0-9]{1,12})\s*(B|[kKMG]B|[KMG]iB)", text.strip())
    if not match:
        raise ProjectError(f"{what} is {text!r}; it is a whole number and a unit: 128MiB, 512KiB or 1GiB")
    unit = match[2]
    power = "BKMG".index(unit[0].upper())
    factor: int = (1024 if "i" in unit else 1000) ** power
    return int(match[1]) * factor


def check(settings: Settings) -> None:
    """Bounds of the contract, said before anything is uploaded."""
    if settings.timeout is not None and not TIMEOUT_MIN <= settings.timeout <= TIMEOUT_MAX:
        raise ProjectError(f"timeout is {settings.timeout.total_seconds():g}s; 10ms to 15m are allowed")
    if settings.cpu is not None and not TIMEOUT_MIN <= settings.cpu <= TIMEOUT_MAX:
        raise ProjectError(f"cpu is {settings.cpu.total_seconds():g}s; 10ms to 15m are allowed")
    for name, (least, most) in SIZES.items():
        _check_range(name, getattr(settings, name), least, most, " bytes")
    _check_range("open_files", settings.open_files, OPEN_FILES_MIN, OPEN_FILES_MAX)
    _check_range("processes", settings.processes, PROCESSES_MIN, PROCESSES_MAX)
    _check_range("concurrency", settings.concurrency, CONCURRENCY_MIN, CONCURRENCY_MAX)
    _check_range("workers_min", settings.workers_min, WORKERS_MIN_MIN, WORKERS_MIN_MAX)
    if settings.state is not None and settings.state not in STATES:
        raise ProjectError(f"state is {settings.state!r}; {', '.join(STATES)} are allowed")
    if settings.alias is not None and not NAME_PATTERN.fullmatch(settings.alias):
        raise ProjectError(f"alias is {settings.alias!r}; {_NAME_RULE}")
    for name, value in settings.env.items():
        if not ENV_NAME_PATTERN.fullmatch(name) or "\0" in value:
            raise ProjectError(f"env has {name!r}; names are letters, digits and _, and values have no NUL")


def _check_range(name: str, value: int | None, least: int, most: int, unit: str = "") -> None:
    if value is not None and not least <= value <= most:
        raise ProjectError(f"{name} is {value}{unit}; {least} to {most} are allowed")


def _over(first: Settings, second: Settings) -> Settings:
    changes: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        value = getattr(first, name)
        if value is None or value in ((), {}):
            changes[name] = getattr(second, name)
    return replace(first, **changes)


def _settings(table: Mapping[str, Any], where: str) -> Settings:
    values: dict[str, Any] = {}
    for name, value in table.items():
        reader = _READERS.get(name)
        if reader is None:
            close = difflib.get_close_matches(name, _READERS, n=1)
            raise ProjectError(
                f"{where} has {name!r}, which is no setting; there are: {', '.join(_READERS)}",
                hint=f"did you mean {close[0]!r}?" if close else None,
            )
        values[name] = reader(name, value, where)
    return Settings(**values)


def _text(name: str, value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ProjectError(f"{name} in {where} is {value!r}; it is a text")
    return value


def _boolean(name: str, value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ProjectError(f"{name} in {where} is {value!r}; it is true or false")
    return value


def _integer(name: str, value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProjectError(f"{name} in {where} is {value!r}; it is a whole number")
    return value


def _duration(name: str, value: object, where: str) -> timedelta:
    return parse_duration(_text(name, value, where), f"{name} in {where}")


def _size(name: str, value: object, where: str) -> int:
    return parse_size(_text(name, value, where), f"{name} in {where}")


def _texts(name: str, value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ProjectError(f"{name} in {where} is {value!r}; it is a list of patterns as in a .gitignore")
    return tuple(value)


def _environment(name: str, value: object, where: str) -> Mapping[str, str]:
    # The values may be secrets: they never appear in a message.
    if not isinstance(value, dict):
        raise ProjectError(f'{name} in {where} is no table; it is one of NAME = "text"')
    for variable, text in value.items():
        if not isinstance(text, str):
            raise ProjectError(f"{name}.{variable} in {where} is a {type(text).__name__}; it is a text")
    return dict(value)


_READERS: Mapping[str, Callable[[str, object, str], Any]] = {
    "name": _text,
    "handler": _text,
    "timeout": _duration,
    "cpu": _duration,
    "memory": _size,
    "tmp": _size,
    "output": _size,
    "log": _size,
    "open_files": _integer,
    "processes": _integer,
    "network": _boolean,
    "concurrency": _integer,
    "workers_min": _integer,
    "state": _text,
    "public": _boolean,
    "alias": _text,
    "exclude": _texts,
    "env": _environment,
}

_NAME_RULE = "allowed are 1 to 63 lower-case letters, digits and hyphens, a letter first and no hyphen last"


def _checked_name(name: str, *, said: bool) -> str:
    if not NAME_PATTERN.fullmatch(name):
        origin = "the name is" if said else "the name taken from the path would be"
        raise ProjectError(f"{origin} {name!r}; {_NAME_RULE}", hint="give one with --name")
    return name


def _checked_handler(handler: str, path: Path) -> str:
    if not HANDLER_PATTERN.fullmatch(handler):
        raise ProjectError(f"the handler is {handler!r}; it is module:function, for example main:handler")
    module = handler.partition(":")[0]
    top = module.partition(".")[0]
    known = path.stem == module if path.is_file() else (path / f"{top}.py").is_file() or (path / top).is_dir()
    if not known:
        raise ProjectError(
            f"the handler is {handler!r}, but {path} has no module {top!r}",
            hint="module:function, relative to the folder",
        )
    return handler


def _guess_name(path: Path) -> str:
    # main.py says nothing about what it does; the folder it is in does.
    stem = path.name if path.is_dir() else path.stem
    if path.is_file() and stem in (*ENTRY_MODULES, HANDLER_NAME):
        stem = path.parent.name
    return stem.lower().replace("_", "-").replace(" ", "-").replace(".", "-")


def _guess_module(folder: Path) -> Path:
    found = [folder / f"{name}.py" for name in ENTRY_MODULES if (folder / f"{name}.py").is_file()]
    if not found:
        found = [
            file for file in sorted(folder.glob("*.py")) if file.is_file() and not NO_ENTRY_MODULES.fullmatch(file.stem)
        ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ProjectError(
            f"{folder} has no Python file at its top", hint="name the handler: --handler module:function"
        )
    raise ProjectError(
        f"{folder} has {len(found)} files that could hold the handler: {', '.join(file.name for file in found[:10])}",
        hint=f"name the handler: --handler {found[0].stem}:function, or call one file main.py",
    )


def _public_functions(module: Path) -> list[str]:
    """Names at the top level of a module that are functions, in order; ``handler = …`` counts as one."""
    names: dict[str, None] = {}
    for node in _parse(module).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                if not any(_is_warmup(decorator) for decorator in node.decorator_list):
                    names[name] = None
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if name == HANDLER_NAME:
                    names[name] = None
            case ast.ImportFrom(names=imported):
                if any((alias.asname or alias.name) == HANDLER_NAME for alias in imported):
                    names[HANDLER_NAME] = None
            case _:
                pass
    return list(names)


def _is_warmup(decorator: ast.expr) -> bool:
    """``@warmup`` and ``@tailcut.warmup``: called when a worker starts, never by a call."""
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name == "warmup"


def _parse(module: Path) -> ast.Module:
    try:
        return ast.parse(module.read_bytes(), filename=str(module))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        text = (error.text or "").rstrip() if isinstance(error, SyntaxError) else ""
        raise ProjectError(
            f"{module}{line}: {type(error).__name__}: {getattr(error, 'msg', None) or error}"
            + (f"\n    {text.strip()}" if text else ""),
        ) from None
    except OSError as error:
        raise ProjectError(f"cannot read {module}: {error.strerror}") from None


def example_arguments(project: Project) -> dict[str, Any]:
    """Arguments to show in a first call: one value for each parameter that must be given."""
    module, _, name = project.handler.partition(":")
    base = project.path if project.path.is_dir() else project.path.parent
    file = base / (module.replace(".", "/") + ".py")
    if not file.is_file():
        return {}
    try:
        body = _parse(file).body
    except ProjectError:
        return {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return _required_arguments(node.args)
    return {}


def _required_arguments(arguments: ast.arguments) -> dict[str, Any]:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [argument for argument, default in keywords if default is None]
    return {argument.arg: _example(argument.annotation) for argument in required}


def _example(annotation: ast.expr | None) -> Any:
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = base.id if isinstance(base, ast.Name) else ""
    examples: dict[str, Any] = {"str": "text", "int": 1, "float": 1.5, "bool": True, "list": [], "dict": {}}
    return examples.get(name)
