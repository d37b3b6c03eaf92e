"""``tailcut login`` with an e-mail address: sign in as a person, make a key for this machine, sign out again.

What is kept is a key with the least that the command line needs, revocable by itself; the password and the session are
forgotten at once. Called by ``start``.
"""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tailcut import _answers as answers
from tailcut._answers import Answer
from tailcut._errors import ApiError, ConfigurationError, ConnectionFailed
from tailcut._operations import CONNECT_TIMEOUT, NEVER_PROXIED, TIMEOUT_DEFAULT

KEY_LIFETIME = timedelta(days=90)
_SCOPES_OF_ROLE = {
    "owner": ["deploy", "invoke", "read"],
    "admin": ["deploy", "invoke", "read"],
    "developer": ["deploy", "invoke", "read"],
}
"""Administration is left to people: a key in a file should not make others."""
_CODE_NEEDED = "second-factor-required"


def make_key(
    server: str, email: str, tenant: str | None, *, ask_password: Callable[[], str], ask_code: Callable[[], str]
) -> str:
    """→ the key's token. Raises TailcutError."""
    timeout = httpx.Timeout(TIMEOUT_DEFAULT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())
    mounts = dict.fromkeys(NEVER_PROXIED)
    with httpx.Client(base_url=server, timeout=timeout, follow_redirects=False, mounts=mounts) as http:
        session = _log_in(http, email, ask_password(), ask_code)
        http.headers["Authorization"] = f"Bearer {session['token']}"
        try:
            return _key_of(http, _choose(http, tenant))
        finally:
            _ask(http, "DELETE", "/v1/sessions/current")


def _log_in(http: httpx.Client, email: str, password: str, ask_code: Callable[[], str]) -> dict[str, Any]:
    body = {"email": email, "password": password}
    try:
        return _ask(http, "POST", "/v1/sessions", body)
    except ApiError as error:
        if error.name != _CODE_NEEDED:
            raise
    return _ask(http, "POST", "/v1/sessions", body | {"code": ask_code()})


def _choose(http: httpx.Client, wanted: str | None) -> dict[str, Any]:
    """The tenant to work for: the named one, or the only one."""
    found = {each["name"]: each for each in _ask(http, "GET", "/v1/person")["tenants"]}
    if wanted is not None and wanted not in found:
        raise ConfigurationError(f"you are no member of a tenant {wanted!r}", hint=f"yours: {', '.join(found) or '–'}")
    if wanted is None and len(found) != 1:
        hint = f"give --tenant: {', '.join(found)}" if found else "make one on the dashboard first"
        raise ConfigurationError(f"you are a member of {len(found)} tenants", hint=hint)
    chosen: dict[str, Any] = found[wanted or next(iter(found))]
    return chosen


def _key_of(http: httpx.Client, tenant: dict[str, Any]) -> str:
    scopes = _SCOPES_OF_ROLE.get(tenant["role"])
    if scopes is None:
        raise ConfigurationError(
            f"the role {tenant['role']} makes no keys", hint="ask an owner for the role developer, or for a key"
        )
    body = {
        "name": f"tailcut on {socket.gethostname()}"[:100],
        "scopes": scopes,
        "expires_at": (datetime.now(UTC) + KEY_LIFETIME).isoformat(timespec="seconds"),
    }
    return str(_ask(http, "POST", "/v1/keys", body, {"Tailcut-Tenant": tenant["name"]})["token"])


def _ask(
    http: httpx.Client,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    try:
        got = http.request(method, path, json=body, headers=headers)
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"cannot ask {http.base_url}: {error}", hint="is the server's address right?") from None
    answer = Answer(got.status_code, {name.lower(): value for name, value in got.headers.items()}, got.content)
    url = f"{http.base_url}{path}"
    if answer.status >= 300:
        raise answers.refusal(answer, method=method, url=url, by_function=False)
    return dict(answers.document(answer, method=method, url=url)) if answer.content else {}
