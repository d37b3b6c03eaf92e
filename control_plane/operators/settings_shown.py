"""The settings in force, for operators' eyes: every one, none of the secrets.

Called by the endpoints and the page. A setting is a secret when its field is kept from ``repr`` or its name says so; of
URLs the password is left out. A new setting is shown by itself.
"""

import ast
import inspect
import re
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from control_plane.operators.schemas import Setting
from control_plane.settings import Settings

SECRET_WORDS: Final = ("token", "secret", "api_key", "sealing_key", "password")
HIDDEN: Final = "set, not shown"
_ABOUT_MAX: Final = 200


def settings_in_force(settings: Settings) -> list[Setting]:
    abouts = _abouts()
    shown = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        alias = field.validation_alias
        choices: list[Any] = list(getattr(alias, "choices", []))
        variable = str(choices[-1]) if choices else f"TAILCUT_{name.upper()}"
        is_secret = field.repr is False or any(word in name for word in SECRET_WORDS)
        text = (HIDDEN if value else "") if is_secret else _plain(value)
        default = field.get_default(call_default_factory=True)
        shown.append(
            Setting(name=variable, value=text, is_default=value == default, about=abouts.get(name, "")[:_ABOUT_MAX])
        )
    return sorted(shown, key=lambda each: each.name)


def _plain(value: Any) -> str:
    text = str(value)
    if "://" not in text:
        return text
    parts = urlsplit(text)
    if parts.password is None:
        return text
    return urlunsplit(parts._replace(netloc=re.sub(r":[^:@]*@", ":…@", parts.netloc)))


@cache
def _abouts() -> dict[str, str]:
    """Field → the string below it in the source: pydantic keeps none for fields that inherit no docstring."""
    found: dict[str, str] = {}
    try:
        [made] = [node for node in ast.parse(inspect.getsource(Settings)).body if isinstance(node, ast.ClassDef)]
    except (OSError, ValueError):
        return found
    for field, after in zip(made.body, made.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                found[name] = " ".join(text.split()).replace("``", "")
    return found
