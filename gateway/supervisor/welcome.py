"""After the first start: a development tenant with a key, the example function, and one call of it over HTTP.

Done once: what exists is left as it is, only the call is made again. The key lies in ``var/dev-credentials.json``
(mode 0600) and is never printed.
"""

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from gateway.settings import environment
from gateway.supervisor.child import Program
from gateway.supervisor.problems import EXIT_CHILD_FAILED, CannotStart
from gateway.supervisor.programs import Places, control_plane

if TYPE_CHECKING:
    from gateway.supervisor.tree import Tree

TENANT = "dev"
FUNCTION = "hello"
ARGUMENTS = {"name": "Tailcut"}
_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hello"
_CREATE_TIMEOUT_S = 60.0
_DEPLOY_TIMEOUT_S = 120.0
_CALL_ATTEMPTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made, for people to repeat."""

    curl: str
    status: int
    answer: str


async def ensure_credentials(tree: "Tree") -> dict[str, str]:
    """The development tenant's credentials, made at the first start."""
    path = tree.places.data_dir / "dev-credentials.json"
    program = control_plane(tree.settings, tree.places, "create-tenant", TENANT, "--if-missing", "--json")
    process = await tree.run_once(program, _CREATE_TIMEOUT_S)
    try:
        created: dict[str, Any] = json.loads(bytes(process.output))
    except ValueError as error:
        text = f"`create-tenant` did not answer with JSON but with {bytes(process.output[:200])!r}"
        raise CannotStart(text, EXIT_CHILD_FAILED) from error
    key = created.get("key") or _known_key(path)
    if key is None:
        raise CannotStart(
            f"the tenant {TENANT} exists, but its key is not in {path}: keys are shown once only. "
            "Put the file back, make a new key with the operator's token, or start on another --data-dir",
            EXIT_CHILD_FAILED,
        )
    credentials = {
        "tenant": TENANT,
        "key": key,
        "gateway_url": tree.places.gateway_url,
        "control_plane_url": tree.places.control_plane_url,
        "dashboard_url": f"{tree.places.control_plane_url}/",
    }
    _write_secret(path, json.dumps(credentials, indent=2) + "\n")
    return credentials


async def ensure_example(tree: "Tree", credentials: dict[str, str]) -> bool:
    """Deploys examples/hello unless the function exists. False: the example is not here (installed without it)."""
    headers = {"Authorization": f"Bearer {credentials['key']}"}
    async with httpx.AsyncClient(base_url=tree.places.control_plane_url, headers=headers, trust_env=False) as client:
        found = await client.get(f"/v1/functions/{FUNCTION}")
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
            answer = await client.post(url, json=ARGUMENTS, headers={"Authorization": f"Bearer {credentials['key']}"})
            if answer.status_code not in (401, 404, 503):
                break
            await anyio.sleep(0.1)
    body = shlex.quote(json.dumps(ARGUMENTS))
    credentials_path = shlex.quote(str(places.data_dir / "dev-credentials.json"))
    key = f'$({sys.executable} -c \'import json; print(json.load(open("{credentials_path}"))["key"])\')'
    curl = f'curl {url} -H "Authorization: Bearer {key}" -d {body}'
    return Call(curl, answer.status_code, answer.text)


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
