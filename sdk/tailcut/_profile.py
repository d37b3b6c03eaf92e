"""Where server and key come from: what was given, the environment, the profile, a local server's development file.

In this order. A key from a file is only ever sent to the server that stands beside it in that file: giving another
``--server`` does not hand it a key that was not meant for it. Called by _operations and the command line.
"""

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tailcut._errors import ConfigurationError

DEVELOPMENT_FILE = Path("var") / "dev-credentials.json"
SERVER_VARIABLE = "TAILCUT_SERVER"
KEY_VARIABLE = "TAILCUT_KEY"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Credentials:
    server: str
    key: str = field(repr=False)
    origin: str
    """Where the key comes from, for people: ``TAILCUT_KEY``, ``the profile …``."""
    gateway_url: str | None = None
    tenant: str | None = None
    dashboard_url: str | None = None

    @property
    def is_development(self) -> bool:
        return self.origin == str(DEVELOPMENT_FILE)


@dataclass(frozen=True, slots=True)
class _Stored:
    """One file's idea of server and key."""

    origin: str
    server: str
    key: str = field(repr=False)
    gateway_url: str | None = None
    tenant: str | None = None
    dashboard_url: str | None = None


def find(*, server: str | None, key: str | None) -> Credentials:
    """Raises ConfigurationError with all the places that were looked at."""
    wanted_server = _clean(server, "server") or _clean(os.environ.get(SERVER_VARIABLE), SERVER_VARIABLE)
    given_key = key or os.environ.get(KEY_VARIABLE) or None
    key_origin = "--key" if key else KEY_VARIABLE
    stored = _matching(wanted_server)
    if given_key is not None:
        address = wanted_server or (stored.server if stored else None)
        if address is None:
            raise ConfigurationError("there is a key but no server to use it with", hint=_PLACES_OF_SERVER)
        # The gateway and the tenant of a stored login belong to its key; another key may be another tenant's.
        same = stored if stored is not None and stored.key == given_key else None
        return Credentials(
            server=address,
            key=_checked_key(given_key, key_origin),
            origin=key_origin,
            gateway_url=same.gateway_url if same else None,
            tenant=same.tenant if same else None,
            dashboard_url=same.dashboard_url if same else None,
        )
    if stored is None:
        where = f" for {wanted_server}" if wanted_server else ""
        raise ConfigurationError(f"no key{where}", hint=_PLACES_OF_KEY)
    return Credentials(
        server=wanted_server or stored.server,
        key=_checked_key(stored.key, stored.origin),
        origin=stored.origin,
        gateway_url=stored.gateway_url,
        tenant=stored.tenant,
        dashboard_url=stored.dashboard_url,
    )


def save(credentials: Credentials) -> Path:
    """Writes the profile, readable by nobody else."""
    path = profile_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {
        "server": credentials.server,
        "key": credentials.key,
        "gateway_url": credentials.gateway_url,
        "tenant": credentials.tenant,
    }
    lines = ["# Written by `tailcut login`. The key gives access to your tenant: keep this file to yourself."]
    # A JSON string of printable ASCII is a TOML basic string.
    lines += [f"{name} = {json.dumps(value)}" for name, value in values.items() if value]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    draft.replace(path)
    return path


def profile_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "tailcut" / "config.toml"


def is_exposed(server: str) -> bool:
    """Whether a key sent there can be read on the way."""
    parts = urlsplit(server)
    return parts.scheme == "http" and (parts.hostname or "") not in _LOOPBACK


def clean_server(text: str) -> str:
    """An address as it is stored and compared: scheme, host, port, no slash at the end."""
    cleaned = _clean(text, "server")
    if cleaned is None:
        raise ConfigurationError("the server's address is empty", hint=_ADDRESS)
    return cleaned


def _matching(server: str | None) -> _Stored | None:
    """The first file that names a key for ``server``, or for any if none was given."""
    for read in (_profile, _development):
        stored = read()
        if stored is not None and (server is None or stored.server == server):
            return stored
    return None


def _profile() -> _Stored | None:
    path = profile_path()
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the profile {path} cannot be read: {error}", hint="run `tailcut login`") from None
    return _stored(table, f"the profile {path}", "server")


def _development() -> _Stored | None:
    try:
        document = json.loads(DEVELOPMENT_FILE.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{DEVELOPMENT_FILE} cannot be read: {error}") from None
    return _stored(document, str(DEVELOPMENT_FILE), "control_plane_url")


def _stored(document: object, origin: str, server_name: str) -> _Stored | None:
    if not isinstance(document, dict):
        raise ConfigurationError(f"{origin} holds no table", hint="run `tailcut login`")
    texts = {name: value for name, value in document.items() if isinstance(value, str) and value}
    if server_name not in texts or "key" not in texts:
        return None
    return _Stored(
        origin=origin,
        server=_clean(texts[server_name], origin) or "",
        key=texts["key"],
        gateway_url=texts.get("gateway_url", "").rstrip("/") or None,
        tenant=texts.get("tenant"),
        dashboard_url=texts.get("dashboard_url"),
    )


def _clean(text: str | None, what: str) -> str | None:
    if not text:
        return None
    cleaned = text.strip().rstrip("/")
    try:
        parts = urlsplit(cleaned)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{what} is {text!r}, which is no address of a server", hint=_ADDRESS)
    return cleaned


def _checked_key(key: str, origin: str) -> str:
    key = key.strip()
    # Never in the message: not even a wrong key is to be shown.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"the key from {origin} is not one: keys are printable ASCII and start with tck_")
    return key


_ADDRESS = "it looks like http://127.0.0.1:8000 or https://tailcut.example.com"
_PLACES_OF_KEY = (
    f"run `tailcut login`, give --key, or set {KEY_VARIABLE}; in a folder where `tailcut-server up` runs, "
    f"{DEVELOPMENT_FILE} is used"
)
_PLACES_OF_SERVER = f"run `tailcut login`, give --server, or set {SERVER_VARIABLE}"
