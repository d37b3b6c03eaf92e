"""A form for the arguments of a typed function, made from its OpenAPI operation; and the JSON body that it means.

Called by ``try_pages``. The operation comes from a worker that had run tenant code: everything in it is data of unknown
shape, looked at with bounds, and what is not understood becomes a field for JSON. What always holds: nothing here
raises for what an operation contains; a value that somebody typed ends in the body or in an error that names its field.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

FIELDS_MAX: Final = 40
CHOICES_MAX: Final = 50
REFS_MAX: Final = 8
PREFIX: Final = "arg_"
"""Of the fields' names in the form: no argument is mistaken for a field of ours."""
Kind = Literal["text", "integer", "number", "boolean", "choice", "json"]
_REF: Final = "#/components/schemas/"
_INPUTS: Final = {"date": "date", "email": "email", "uri": "url"}


@dataclass(frozen=True, slots=True)
class ArgumentField:
    name: str
    kind: Kind
    required: bool
    input_type: str
    """Of the input element, for ``text``."""
    choices: tuple[str, ...]
    hint: str
    default: str
    """As the form shows it; empty: none."""


def fields_of(operation: Mapping[str, Any] | None, schemas: Mapping[str, Any] | None) -> list[ArgumentField] | None:
    """In the order of the signature. None: not a typed function, or one whose arguments cannot be told."""
    if operation is None:
        return None
    if "requestBody" not in operation:
        return []
    known = schemas if isinstance(schemas, Mapping) else {}
    schema = _resolved(_at(operation, "requestBody", "content", "application/json", "schema"), known)
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(properties) > FIELDS_MAX:
        return None
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) and all(isinstance(name, str) for name in required) else set()
    return [_field(str(name), about, str(name) in needed, known) for name, about in properties.items()]


def body_of(fields: list[ArgumentField], given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """→ the arguments, and field → what is wrong with what was typed. An empty field is left out, if it may be."""
    body: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for field in fields:
        text = given.get(PREFIX + field.name, "")
        if text == "" and not (field.required and field.kind == "text"):
            if field.required:
                errors[PREFIX + field.name] = "Fill this in"
            continue
        try:
            body[field.name] = _value(field, text)
        except (ValueError, RecursionError) as error:
            errors[PREFIX + field.name] = f"This is no {_WORDS[field.kind]}: {str(error)[:100]}"
    return body, errors


_WORDS: Final[dict[Kind, str]] = {
    "text": "text", "integer": "whole number", "number": "number", "boolean": "yes or no", "choice": "choice",
    "json": "JSON",
}  # fmt: skip


def _value(field: ArgumentField, text: str) -> Any:
    match field.kind:
        case "text":
            return text
        case "integer":
            return int(text[:1000])
        case "number":
            number = float(text)
            if number - number != 0:
                raise ValueError("JSON has no such number")
            return number
        case "boolean":
            return text == "true"
        case "choice" | "json":
            return json.loads(text)


def _field(name: str, about: Any, required: bool, known: Mapping[str, Any]) -> ArgumentField:
    schema = _plain(_resolved(about, known), known)
    choices = schema.get("enum")
    kind: Kind = "json"
    shown: tuple[str, ...] = ()
    if isinstance(choices, list) and 0 < len(choices) <= CHOICES_MAX:
        kind, shown = "choice", tuple(json.dumps(choice, ensure_ascii=False)[:200] for choice in choices)
    else:
        match schema.get("type"):
            case "string":
                kind = "text"
            case "integer":
                kind = "integer"
            case "number":
                kind = "number"
            case "boolean":
                kind = "boolean"
    format_name = schema.get("format")
    default = ""
    if isinstance(about, Mapping) and "default" in about and about["default"] is not None:
        value = about["default"]
        default = value if kind == "text" and isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ArgumentField(
        name=name,
        kind=kind,
        required=required,
        input_type=_INPUTS.get(format_name, "text") if isinstance(format_name, str) else "text",
        choices=shown,
        hint=_hint(schema, kind),
        default=default[:1000],
    )


def _hint(schema: Mapping[str, Any], kind: Kind) -> str:
    pieces: list[str] = []
    if kind == "json":
        examples = {"array": "a JSON array, like [1, 2]", "object": 'a JSON object, like {"key": 1}'}
        pieces.append(examples.get(str(schema.get("type")), "any JSON; a text needs its quotes"))
    elif isinstance(schema.get("format"), str):
        pieces.append(schema["format"][:40])
    for name, words in (("minimum", "at least"), ("maximum", "at most"), ("maxLength", "characters, at most")):
        if isinstance(schema.get(name), int | float):
            pieces.append(f"{words} {schema[name]}")
    if isinstance(schema.get("description"), str):
        pieces.append(schema["description"][:200])
    return " · ".join(pieces)


def _plain(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """``str | None`` is shown as ``str``: leaving the field empty leaves the argument out."""
    for name in ("anyOf", "oneOf"):
        options = schema.get(name)
        if isinstance(options, list):
            real = [_resolved(option, known) for option in options[:REFS_MAX] if option != {"type": "null"}]
            return real[0] if len(real) == 1 else {}
    return schema


def _resolved(schema: Any, known: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(REFS_MAX):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = known.get(reference.removeprefix(_REF))
    return {}


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
