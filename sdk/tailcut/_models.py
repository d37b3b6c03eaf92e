"""What the SDK returns: frozen dataclasses, read from the control plane's JSON.

Unknown members are ignored, so that an older SDK works with a newer server; a missing required member is
``AnswerInvalid`` with the member's name, never a ``KeyError``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import JSONDecodeError, loads
from typing import Any

from tailcut._errors import AnswerInvalid

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Runtime:
    """What functions run on; dependencies are installed for this."""

    python: str
    """``3.13``"""
    platform: str
    """A target of ``uv --python-platform``: ``x86_64-unknown-linux-gnu``."""
    gateway_url: str
    limits: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    public: bool
    url: str
    aliases: Mapping[str, str]
    """Alias → version id."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StartError:
    """Why a worker of a version could not start."""

    type: str
    message: str
    traceback: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Version:
    id: str
    function: str
    sha256: str
    status: str
    """``preparing``, ``ready`` or ``failed``."""
    handler: str | None = None
    style: str | None = None
    """``typed``, ``request`` or ``event``, known once a worker has started."""
    state: str | None = None
    """``fresh``, ``warm`` or ``forked``: what its workers really do, known once one has started."""
    state_reason: str = ""
    """Why that is something else than was asked for."""
    bundle_bytes: int | None = None
    error: StartError | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    name: str
    function: str
    version: str


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    name: str | None
    scopes: tuple[str, ...]
    last_four: str | None = None
    """The last characters of the token, to recognise it by."""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """The last request that came with it while it was valid, of functions or of the API; to within a minute."""


@dataclass(frozen=True, slots=True)
class NewKey:
    key: Key
    token: str = field(repr=False)
    """The credential itself; the server shows it only this once."""


@dataclass(frozen=True, slots=True)
class Page[T]:
    items: tuple[T, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """The control plane's answer to a bundle."""

    function: str
    version: str
    sha256: str
    alias: str
    status: str
    url: str
    public: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version that answers under an alias."""

    function: str
    version: str
    sha256: str
    alias: str
    status: str
    url: str
    public: bool
    style: str | None
    handler: str
    bundle_bytes: int
    files: int
    lock: tuple[str, ...]
    duration: timedelta
    state: str | None = None
    """``fresh``, ``warm`` or ``forked``: what a call finds in memory."""
    state_reason: str = ""
    """Why that is something else than was asked for."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One answer of a function, with what it cost."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes = field(repr=False)
    request_id: str | None = None
    version: str | None = None
    start: str | None = None
    """``warm`` or ``cold``."""
    cpu: timedelta | None = None
    queue: timedelta | None = None
    memory_bytes: int | None = None

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        try:
            return loads(self.content)
        except (JSONDecodeError, UnicodeDecodeError) as error:
            kind = self.headers.get("content-type", "no content type")
            raise AnswerInvalid(
                f"the function's answer is not JSON ({kind}, {len(self.content)} bytes): {error}"
            ) from None


def runtime(document: Json) -> Runtime:
    return Runtime(
        python=_required(document, "python"),
        platform=_required(document, "platform"),
        gateway_url=_required(document, "gateway_url").rstrip("/"),
        limits=_mapping(document.get("limits")),
    )


def tenant(document: Json) -> Tenant:
    return Tenant(id=_required(document, "id"), name=_required(document, "name"))


def function(document: Json) -> Function:
    return Function(
        name=_required(document, "name"),
        public=document.get("public") is True,
        url=_optional(document, "url") or "",
        aliases=_aliases(document.get("aliases")),
        created_at=_time(document, "created_at"),
    )


def version(document: Json) -> Version:
    failure = document.get("error")
    size = document.get("bundle_bytes", document.get("bytes"))
    return Version(
        id=_required(document, "id", "version"),
        function=_optional(document, "function") or "",
        sha256=_optional(document, "sha256", "bundle_sha256") or "",
        status=_required(document, "status"),
        handler=_optional(document, "handler"),
        style=_optional(document, "style"),
        state=_optional(document, "state"),
        state_reason=_optional(document, "state_reason") or "",
        bundle_bytes=size if isinstance(size, int) else None,
        error=_start_error(failure) if isinstance(failure, Mapping) else None,
        created_at=_time(document, "created_at"),
    )


def alias(document: Json) -> Alias:
    return Alias(
        name=_required(document, "alias", "name"),
        function=_optional(document, "function") or "",
        version=_required(document, "version", "version_id"),
    )


def key(document: Json) -> Key:
    scopes = document.get("scopes")
    return Key(
        id=_required(document, "id"),
        name=_optional(document, "name"),
        scopes=tuple(str(scope) for scope in scopes) if isinstance(scopes, list) else (),
        last_four=_optional(document, "last_four"),
        created_at=_time(document, "created_at"),
        expires_at=_time(document, "expires_at"),
        revoked_at=_time(document, "revoked_at"),
        last_used_at=_time(document, "last_used_at"),
    )


def new_key(document: Json) -> NewKey:
    return NewKey(key=key(document), token=_required(document, "token", "key"))


def upload(document: Json) -> Upload:
    return Upload(
        function=_required(document, "function"),
        version=_required(document, "version"),
        sha256=_required(document, "sha256"),
        alias=_required(document, "alias"),
        status=_required(document, "status"),
        url=_required(document, "url"),
        public=document.get("public") is True,
    )


def page[T](item: Callable[[Json], T]) -> Callable[[Json], Page[T]]:
    def parse(document: Json) -> Page[T]:
        items = document.get("items")
        if not isinstance(items, list) or not all(isinstance(entry, dict) for entry in items):
            raise AnswerInvalid(f"the server's list has no member `items`; it has {_members(document)}")
        return Page(items=tuple(item(entry) for entry in items), next_cursor=_optional(document, "next_cursor"))

    return parse


def _start_error(document: Json) -> StartError:
    return StartError(
        type=_optional(document, "type") or "Error",
        message=_optional(document, "message") or "",
        traceback=_optional(document, "traceback") or "",
    )


def _aliases(value: object) -> Mapping[str, str]:
    """``{"live": "ver_…"}``; a list of alias objects says the same."""
    if isinstance(value, Mapping):
        return {str(name): str(target) for name, target in value.items()}
    if isinstance(value, list):
        found = [alias(entry) for entry in value if isinstance(entry, Mapping)]
        return {entry.name: entry.version for entry in found}
    return {}


def _required(document: Json, *names: str) -> str:
    value = _optional(document, *names)
    if value is None:
        raise AnswerInvalid(f"the server's answer has no member `{names[0]}`; it has {_members(document)}")
    return value


def _optional(document: Json, *names: str) -> str | None:
    for name in names:
        value = document.get(name)
        if isinstance(value, str):
            return value
    return None


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _time(document: Json, name: str) -> datetime | None:
    value = document.get(name)
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _members(document: Json) -> str:
    return ", ".join(f"`{name}`" for name in sorted(document)) or "none"
