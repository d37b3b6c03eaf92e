"""After the first start: a development tenant with a key, the example function, and one call of it over HTTP.

Done once: what exists is left as it is, only the call is made again. The key lies in ``var/dev-credentials.json`` and,
as a header that ``curl -H @FILE`` reads, in ``var/dev-key.header`` (both mode 0600); it is never printed.
"""

import asyncio
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from gateway.settings import environment
from gateway.supervisor.child import Program
from gateway.supervisor.problems import EXIT_CHILD_FAILED, CannotStart
from gateway.supervisor.programs import Places

if TYPE_CHECKING:
    from gateway.supervisor.tree import Tree

TENANT = "dev"
_TIER = "development"
"""Everything that the software can do, and no bill (control_plane/tiers/catalog.toml)."""
PERSON = "dev@localhost"
"""Owns the development tenant; signs in by a link only, until a reset sets a password."""
FUNCTION = "hello"
ARGUMENTS = {"name": "Tailcut"}
_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hello"
_DEPLOY_TIMEOUT_S = 120.0
_CALL_ATTEMPTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made, for people to repeat."""

    curl: str
    status: int
    answer: str


async def ensure_credentials(tree: "Tree") -> dict[str, str] | None:
    """The development tenant's credentials, made at the first start. Raises CannotStart.

    None: the tenant exists and its key is not here, or revoked. Other tenants must be served all the same.
    """
    path = tree.places.data_dir / "dev-credentials.json"
    async with httpx.AsyncClient(base_url=tree.places.control_plane_url, timeout=30.0, trust_env=False) as client:
        key = _known_key(path)
        if key is None or not (await client.get("/v1/tenant", headers=_bearer(key))).is_success:
            key = await _create_tenant(tree, client)
    if key is None:
        return None
    credentials = {
        "tenant": TENANT,
        "key": key,
        "gateway_url": tree.places.gateway_url,
        "control_plane_url": tree.places.control_plane_url,
        "dashboard_url": f"{tree.places.control_plane_url}/",
    }
    _write_secret(path, json.dumps(credentials, indent=2) + "\n")
    _write_secret(_header_path(tree.places), f"Authorization: Bearer {key}\n")
    return credentials


def sign_in_link(
    control_plane_url: str, data_dir: Path, tenant: str, email: str, operator_token: str | None = None
) -> str:
    """A link that signs ``email`` in once, asked for in the name of the operator. Blocking. Raises CannotStart."""
    try:
        token = operator_token or (data_dir / "operator-token").read_text().strip()
    except OSError as error:
        raise CannotStart(f"cannot read the operator's token: {error}", EXIT_CHILD_FAILED) from None
    with httpx.Client(base_url=control_plane_url, timeout=30.0, trust_env=False, headers=_bearer(token)) as client:
        cursor: str | None = None
        while True:
            answer = client.get("/v1/tenants", params={"limit": 100} | ({"cursor": cursor} if cursor else {}))
            page = answer.json() if answer.is_success else {"items": [], "next_cursor": None}
            identifier = next((each["id"] for each in page["items"] if each["name"] == tenant), None)
            cursor = page["next_cursor"]
            if identifier is not None or cursor is None:
                break
        if identifier is None:
            text = (
                f"there is no tenant {tenant!r}" if answer.is_success else f"the control plane said {answer.text[:300]}"
            )
            raise CannotStart(text, EXIT_CHILD_FAILED)
        answer = client.post(f"/v1/tenants/{identifier}/sign-in-links", json={"email": email})
    if not answer.is_success:
        raise CannotStart(f"no link for {email!r}: {answer.text[:300]}", EXIT_CHILD_FAILED)
    return str(answer.json()["url"])


async def _create_tenant(tree: "Tree", client: httpx.AsyncClient) -> str | None:
    """The first key of the new tenant, in the name of the operator; None if there is one of this name."""
    token = tree.settings.operator_token or (tree.places.data_dir / "operator-token").read_text().strip()
    if not token:
        text = f"{tree.places.data_dir / 'operator-token'} is empty, perhaps of a full disk: remove it and start again"
        raise CannotStart(text, EXIT_CHILD_FAILED)
    answer = await client.post("/v1/tenants", json={"name": TENANT, "tier": _TIER}, headers=_bearer(token))
    if answer.status_code == 409:
        return None
    if not answer.is_success:
        text = f"the control plane did not make the tenant {TENANT}: {answer.status_code} {answer.text[:500]}"
        raise CannotStart(text, EXIT_CHILD_FAILED)
    return str(answer.json()["key"]["token"])


async def ensure_example(tree: "Tree", credentials: dict[str, str]) -> bool:
    """Deploys examples/hello unless the function exists. False: the example is not here (installed without it)."""
    async with httpx.AsyncClient(base_url=tree.places.control_plane_url, timeout=30.0, trust_env=False) as client:
        found = await client.get(f"/v1/functions/{FUNCTION}", headers=_bearer(credentials["key"]))
    if found.is_success:
        return True
    if not _EXAMPLE.is_dir():
        return False
    env = environment() | {"TAILCUT_SERVER": tree.places.control_plane_url, "TAILCUT_KEY": credentials["key"]}
    argv = (sys.executable, "-P", "-m", "tailcut", "deploy", str(_EXAMPLE), "--name", FUNCTION, "--json")
    await tree.run_once(Program("deploy", argv, env), _DEPLOY_TIMEOUT_S)
    return True


async def call_example(places: Places, credentials: dict[str, str]) -> Call:
    """One invocation over HTTP, as a user makes it. Tried again while the node says that it is not ready."""
    url = f"{places.gateway_url}/{TENANT}/{FUNCTION}"
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as client:
        for _ in range(_CALL_ATTEMPTS_MAX):
            answer = await client.post(url, json=ARGUMENTS, headers=_bearer(credentials["key"]))
            if answer.status_code not in (401, 404, 503):
                break
            await asyncio.sleep(0.1)
    header = shlex.quote(f"@{_header_path(places)}")
    curl = f"curl -H {header} {url} -d {shlex.quote(json.dumps(ARGUMENTS))}"
    return Call(curl, answer.status_code, answer.text)


def _header_path(places: Places) -> Path:
    return places.data_dir / "dev-key.header"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _known_key(path: Path) -> str | None:
    try:
        key = json.loads(path.read_text()).get("key")
    except (OSError, ValueError, AttributeError):
        return None
    return key if isinstance(key, str) else None


def _write_secret(path: Path, text: str) -> None:
    staged = path.with_suffix(".new")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    staged.replace(path)
