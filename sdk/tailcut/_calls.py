"""The request builder and response parser of both clients: one function per REST operation, no input or output.

A ``Call`` says what to send and how to read the answer; ``_transport`` decides on retries; the clients send.
Called by _operations, the clients and _deploy. Always holds: every name that goes into a path is percent-encoded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import dumps
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from uuid import uuid4

from tailcut import _answers as answers
from tailcut import _models as models
from tailcut._answers import Answer
from tailcut._errors import ConfigurationError

Scope = Literal["deploy", "invoke", "read", "admin"]
PAGE_SIZE_DEFAULT = 50


@dataclass(frozen=True, slots=True)
class Call[T]:
    """One request, complete but for the credentials."""

    method: str
    url: str
    parse: Callable[["Call[T]", Answer], T]
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    """Sent as multipart/form-data together with ``file``."""
    file: Path | None = None
    """The part ``bundle``, streamed from disk."""
    read_timeout: timedelta | None = None
    """Instead of the client's, where the answer takes its time."""
    by_function: bool = False
    """The answer may come from a tenant's code: only the gateway's own refusals mean "not executed"."""


def get_runtime(server: str) -> Call[models.Runtime]:
    return Call("GET", f"{server}/v1/runtime", _document(models.runtime))


def get_tenant(server: str) -> Call[models.Tenant]:
    return Call("GET", f"{server}/v1/tenant", _document(models.tenant))


def list_functions(server: str, *, limit: int, cursor: str | None) -> Call[models.Page[models.Function]]:
    return Call("GET", f"{server}/v1/functions", _document(models.page(models.function)), params=_paging(limit, cursor))


def get_function(server: str, name: str) -> Call[models.Function]:
    return Call("GET", _function_url(server, name), _document(models.function))


def update_function(server: str, name: str, *, public: bool) -> Call[models.Function]:
    return _with_json("PATCH", _function_url(server, name), {"public": public}, _document(models.function))


def delete_function(server: str, name: str) -> Call[None]:
    return Call("DELETE", _function_url(server, name), _nothing)


def upload_version(
    server: str, name: str, *, bundle: Path, public: bool | None, alias: str | None, read_timeout: timedelta
) -> Call[models.Upload]:
    form: dict[str, str] = {}
    if public is not None:
        form["public"] = "true" if public else "false"
    if alias is not None:
        form["alias"] = alias
    return Call(
        "POST",
        f"{_function_url(server, name)}/versions",
        _document(models.upload),
        headers=_idempotent(),
        form=form,
        file=bundle,
        read_timeout=read_timeout,
    )


def list_versions(server: str, name: str, *, limit: int, cursor: str | None) -> Call[models.Page[models.Version]]:
    url = f"{_function_url(server, name)}/versions"
    return Call("GET", url, _document(models.page(models.version)), params=_paging(limit, cursor))


def get_version(server: str, name: str, version: str) -> Call[models.Version]:
    return Call("GET", f"{_function_url(server, name)}/versions/{_part(version)}", _document(models.version))


def put_alias(server: str, name: str, alias: str, version: str) -> Call[models.Alias]:
    url = f"{_function_url(server, name)}/aliases/{_part(alias)}"

    def parse(document: models.Json) -> models.Alias:
        return models.alias({"function": name, "alias": alias, "version": version, **document})

    return _with_json("PUT", url, {"version": version}, _document(parse))


def delete_alias(server: str, name: str, alias: str) -> Call[None]:
    return Call("DELETE", f"{_function_url(server, name)}/aliases/{_part(alias)}", _nothing)


def rollback(server: str, name: str) -> Call[models.Alias]:
    def parse(document: models.Json) -> models.Alias:
        return models.alias({"function": name, "alias": "live", **document})

    return Call("POST", f"{_function_url(server, name)}/rollback", _document(parse), headers=_idempotent())


def create_key(server: str, *, name: str | None, scopes: Sequence[str], expires_at: str | None) -> Call[models.NewKey]:
    body: dict[str, Any] = {"scopes": list(scopes)}
    if name is not None:
        body["name"] = name
    if expires_at is not None:
        body["expires_at"] = expires_at
    return _with_json("POST", f"{server}/v1/keys", body, _document(models.new_key), headers=_idempotent())


def list_keys(server: str, *, limit: int, cursor: str | None) -> Call[models.Page[models.Key]]:
    return Call("GET", f"{server}/v1/keys", _document(models.page(models.key)), params=_paging(limit, cursor))


def delete_key(server: str, key_id: str) -> Call[None]:
    return Call("DELETE", f"{server}/v1/keys/{_part(key_id)}", _nothing)


def list_logs(server: str, filters: Mapping[str, str], *, limit: int, cursor: str | None) -> Call[dict[str, Any]]:
    return Call("GET", f"{server}/v1/logs", _document(dict), params={**filters, **(_paging(limit, cursor) or {})})


def follow_logs(server: str, filters: Mapping[str, str], *, after: str, wait: timedelta) -> Call[dict[str, Any]]:
    """A long poll: the answer comes with the first lines, or empty after ``wait``."""
    params = {**filters, "after": after, "wait_s": f"{wait.total_seconds():g}"}
    return Call(
        "GET", f"{server}/v1/logs/follow", _document(dict), params=params, read_timeout=wait + timedelta(seconds=30)
    )


def list_secrets(server: str, function: str) -> Call[dict[str, Any]]:
    return Call("GET", f"{_function_url(server, function)}/secrets", _document(dict))


def put_secret(server: str, function: str, name: str, value: str) -> Call[dict[str, Any]]:
    url = f"{_function_url(server, function)}/secrets/{_part(name)}"
    return _with_json("PUT", url, {"value": value}, _document(dict))


def delete_secret(server: str, function: str, name: str) -> Call[None]:
    return Call("DELETE", f"{_function_url(server, function)}/secrets/{_part(name)}", _nothing)


def list_tiers(server: str) -> Call[dict[str, Any]]:
    return Call("GET", f"{server}/v1/tiers", _document(dict))


def get_subscription(server: str) -> Call[dict[str, Any]]:
    return Call("GET", f"{server}/v1/subscription", _document(dict))


def buy_tier(server: str, tier: str, add_ons: Mapping[str, int]) -> Call[dict[str, Any]]:
    body = {"tier": tier, "add_ons": dict(add_ons)}
    return _with_json("POST", f"{server}/v1/subscription/checkout", body, _document(dict))


def get_usage(server: str) -> Call[dict[str, Any]]:
    return Call("GET", f"{server}/v1/usage", _document(dict))


def list_usage(
    server: str, what: Literal["series", "groups"], params: Mapping[str, str | datetime | None]
) -> Call[list[dict[str, Any]]]:
    return Call("GET", f"{server}/v1/usage/{what}", _document(_items), params=_given(params))


def export_usage(server: str, params: Mapping[str, str | datetime | None]) -> Call[str]:
    return Call("GET", f"{server}/v1/usage/export", _text, params=_given(params))


def probe_gateway(gateway_url: str) -> Call[int]:
    """Whether the gateway says that it is ready; any status is an answer."""
    return Call("GET", f"{gateway_url}/-/readyz", lambda _, answer: answer.status, read_timeout=timedelta(seconds=3))


def call_function(
    gateway_url: str,
    tenant: str,
    function: str,
    *,
    method: str,
    path: str,
    params: Mapping[str, str] | None,
    headers: Mapping[str, str],
    content: bytes | None,
    timeout: timedelta | None,
) -> Call[models.Invocation]:
    """Any request to a function; ``function`` may carry ``@alias``; ``path`` is what follows it."""
    rest = "/" + quote(path.lstrip("/"), safe="/:@!$&'()*+,;=-._~%") if path.strip("/") else ""
    return Call(
        method.upper(),
        f"{gateway_url}/{_part(tenant)}/{quote(function, safe='@')}{rest}",
        lambda _, answer: answers.invocation(answer),
        headers=headers,
        params=params,
        content=content,
        read_timeout=timeout,
        by_function=True,
    )


def invoke_function(
    gateway_url: str, tenant: str, function: str, arguments: Mapping[str, Any], *, timeout: timedelta | None
) -> Call[Any]:
    """A typed function with its arguments; the answer is its value, or the error it became."""
    raw = call_function(
        gateway_url,
        tenant,
        function,
        method="POST",
        path="",
        params=None,
        headers={"content-type": "application/json"},
        content=dumps(arguments, separators=(",", ":"), allow_nan=False).encode(),
        timeout=timeout,
    )

    def parse(call: Call[Any], answer: Answer) -> Any:
        if answer.status >= 400:
            raise answers.refusal(answer, method=call.method, url=call.url, by_function=True)
        return answers.value(answers.invocation(answer))

    return Call(
        raw.method,
        raw.url,
        parse,
        headers=raw.headers,
        content=raw.content,
        read_timeout=timeout,
        by_function=True,
    )


def _document[T](parse: Callable[[models.Json], T]) -> Callable[[Call[T], Answer], T]:
    def read(call: Call[T], answer: Answer) -> T:
        if answer.status >= 300:
            raise answers.refusal(answer, method=call.method, url=call.url, by_function=False)
        return parse(answers.document(answer, method=call.method, url=call.url))

    return read


def _text(call: Call[str], answer: Answer) -> str:
    if answer.status >= 300:
        raise answers.refusal(answer, method=call.method, url=call.url, by_function=False)
    return answer.content.decode("utf-8", "replace")


def _items(document: models.Json) -> list[dict[str, Any]]:
    items = document.get("items")
    return [dict(item) for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _given(params: Mapping[str, str | datetime | None]) -> dict[str, str]:
    """Without what is None. Raises ConfigurationError: a time without its zone means nothing to a server."""
    found = {}
    for name, value in params.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ConfigurationError(f"{name} is {value}, without a time zone", hint="use datetime.now(UTC)")
            found[name] = value.isoformat()
        elif value is not None:
            found[name] = value
    return found


def _nothing(call: Call[None], answer: Answer) -> None:
    if answer.status >= 300:
        raise answers.refusal(answer, method=call.method, url=call.url, by_function=False)


def _with_json[T](
    method: str,
    url: str,
    body: Mapping[str, Any],
    parse: Callable[[Call[T], Answer], T],
    *,
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    return Call(
        method,
        url,
        parse,
        headers={"content-type": "application/json", **(headers or {})},
        content=dumps(body).encode(),
    )


def _idempotent() -> dict[str, str]:
    """The same for every attempt of one call, so that the server can tell a repetition from a new wish."""
    return {"idempotency-key": uuid4().hex}


def _function_url(server: str, name: str) -> str:
    return f"{server}/v1/functions/{_part(name)}"


def _part(text: str) -> str:
    return quote(text, safe="")


def _paging(limit: int, cursor: str | None) -> dict[str, str]:
    return {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
