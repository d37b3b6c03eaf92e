"""Makes a page: a template with what every page needs (who looks, the navigation, the theme, the form's token).

``render`` is what endpoints call. Nothing here reads the database.
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from control_plane.audit.actions import ACTIONS
from control_plane.auth.permissions import WHAT_ROLES_DO
from control_plane.context import Context
from control_plane.dashboard import audit_words, charts, figures, money, tier_words
from control_plane.dashboard import visitor as visitors
from control_plane.dashboard.navigation import sections_for
from control_plane.dashboard.visitor import Visitor
from control_plane.models import now
from control_plane.problems import Problem

STATIC_DIR: Final = Path(__file__).with_name("static")
THEME_COOKIE: Final = "tailcut_theme"
THEMES: Final = ("auto", "light", "dark")
_FORM_COOKIE_S: Final = 12 * 3600


def render(
    request: Request,
    context: Context,
    visitor: Visitor | None,
    template: str,
    *,
    section: str = "",
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """``section``: of ``navigation.SECTIONS``, shown as the one we are in."""
    csrf_token = visitor.csrf_token if visitor else _form_token(request, context)
    content = (
        environment()
        .get_template(template)
        .render(
            visitor=visitor,
            section=section,
            groups=sections_for(visitor),
            theme=theme_of(request),
            csrf_token=csrf_token,
            now=now(),
            settings=context.settings,
            **{"errors": {}, "values": {}, "error": ""} | values,
        )
    )
    response = HTMLResponse(content, status_code=status)
    if visitor is None:
        name = visitors.form_cookie(context.settings)
        visitors.set_cookie(response, context, name, csrf_token, _FORM_COOKIE_S)
    return response


def refusal(request: Request, context: Context, visitor: Visitor | None, problem: Problem, status: int) -> HTMLResponse:
    """A problem as a page, for whoever looks with a browser."""
    return render(request, context, visitor, "problem.html", status=status, problem=problem)


def errors_of(problem: Problem) -> dict[str, str]:
    """Field → message, of a problem that a service raised."""
    return {each["field"]: each["message"] for each in problem.members.get("errors", [])}


def theme_of(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else "auto"


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("control_plane.dashboard"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(ms=_milliseconds, mib=_mebibytes)
    made.filters.update(
        compact=figures.compact, exact=figures.exact, duration=figures.duration, size=figures.size,
        money=money.money, price=money.price, percent=figures.percent, told=audit_words.told,
    )  # fmt: skip
    made.globals.update(
        static=static_url, actions=ACTIONS, roles=WHAT_ROLES_DO, program=program_of, words=tier_words, bar=charts.bar
    )
    return made


def _milliseconds(value: int) -> str:
    """A limit, as people say it: "3 s", "250 ms"."""
    return f"{value / 1000:g}\N{NO-BREAK SPACE}s" if value >= 1000 else f"{value}\N{NO-BREAK SPACE}ms"


def _mebibytes(value: int) -> str:
    return (
        f"{value / 2**30:g}\N{NO-BREAK SPACE}GiB"
        if value >= 2**30 and value % 2**28 == 0
        else f"{value / 2**20:.4g}\N{NO-BREAK SPACE}MiB"
    )


def program_of(user_agent: str) -> str:
    """What people call it: "Firefox on Linux"; else the first word, for example ``tailcut/0.1``."""
    browsers = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
    systems = {"Android": "Android", "iPhone": "an iPhone", "iPad": "an iPad", "Windows": "Windows", "Mac OS": "a Mac"}
    browser = next((name for token, name in browsers.items() if f"{token}/" in user_agent), "")
    system = next((name for token, name in (systems | {"Linux": "Linux"}).items() if token in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return user_agent.partition(" ")[0][:60] or "unknown"


@cache
def static_url(name: str) -> str:
    """With a piece of the content's hash: browsers may keep it for ever."""
    return f"/static/{name}?{hashlib.sha256(static_file(name).read_bytes()).hexdigest()[:12]}"


def static_file(name: str) -> Path:
    return htmx_file() if name == "htmx.js" else STATIC_DIR / name


@cache
def htmx_file() -> Path:
    """The library, as its package from the lock brings it; the package's Python is not imported."""
    spec = importlib.util.find_spec("js_lib_htmx")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package django-js-lib-htmx is not installed; run `make setup`")
    return Path(spec.origin).with_name("static") / "htmx" / "htmx.min.js"


def _form_token(request: Request, context: Context) -> str:
    """The one that the browser has, so that a second tab does not make the first one's form stale."""
    held = request.cookies.get(visitors.form_cookie(context.settings), "")
    is_ours = len(held) == len(visitors.new_form_token()) and held.isascii() and held.isprintable()
    return held if is_ours else visitors.new_form_token()
