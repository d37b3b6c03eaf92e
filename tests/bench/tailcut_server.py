"""A Tailcut of the benchmark's own: started on one CPU, deployed to through the SDK, looked at from outside.

Called by ``peers`` (one server for the three state modes) and by ``cold``, ``crowd`` and ``soak``.
"""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import tailcut

from tests.bench.host import PeerError, environment, free_port, pinned, script
from tests.bench.load import ROOT, Target
from tests.bench.workloads import Workload

FUNCTIONS = Path(__file__).resolve().parent / "hello"
_CATALOG = ROOT / "control_plane" / "tiers" / "catalog.toml"
_UNBOUND = {"concurrency_max": "4096", "functions_max": "4000"}
_SETTINGS = {"TAILCUT_FUNCTIONS_PER_TENANT_MAX": "4000"}
"""The development tier's own limits and the server's would refuse a burst of 100 and the thousandth function."""
_DEPLOY_THREADS = 8
_BOOKED_WITHIN_S = 300.0
_LAG_MEASURED_S = 1.5
"""The gateway looks once a second."""


class TailcutServer:
    def __init__(self, cpus: list[int], folder: Path, settings: dict[str, str] | None = None) -> None:
        """``cpus``: all of its processes run there, with a reactor on each."""
        folder.mkdir(exist_ok=True)
        self.cpus = ",".join(map(str, cpus))
        self.folder = folder
        self.data = folder / "data"
        self.settings = settings or {}
        self.port = free_port()
        self.admin_port = free_port()

    def start(self) -> None:
        # The control plane and Valkey come along; they idle on the same CPU.
        command = [*pinned(self.cpus), script("tailcut-server"), "up", "--detach", "--cpus", self.cpus]
        command += ["--data-dir", str(self.data), "--gateway-port", str(self.port)]
        command += ["--control-plane-port", str(free_port()), "--admin-port", str(self.admin_port)]
        extra = {"TAILCUT_TIER_CATALOG": str(self._catalog()), **_SETTINGS, **self.settings}
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=180, env=environment() | extra
        )
        if result.returncode:
            raise PeerError(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-3000:]}")
        credentials = json.loads((self.data / "dev-credentials.json").read_text())
        self.key: str = credentials["key"]
        self.control_plane_url: str = credentials["control_plane_url"]
        self._client = tailcut.Client(server=self.control_plane_url, key=self.key)

    def stop(self) -> None:
        command = [script("tailcut-server"), "down", "--data-dir", str(self.data)]
        subprocess.run(command, timeout=90, capture_output=True, env=environment(), cwd=ROOT)

    def deploy(self, name: str, workload: Workload, state: str, workers_min: int = 1) -> Target:
        """One worker at most: the others have one process, too."""
        deployed = self._client.deploy(
            FUNCTIONS,
            name=name,
            handler=f"hello:{workload.handler}",
            concurrency=1,
            workers_min=workers_min,
            state=state,
            ready_timeout=timedelta(seconds=300),
        )
        return self.target(deployed.url, workload)

    def deploy_many(self, names: list[str], workload: Workload, state: str, workers_min: int = 0) -> list[Target]:
        with ThreadPoolExecutor(_DEPLOY_THREADS) as pool:
            return list(pool.map(lambda name: self.deploy(name, workload, state, workers_min), names))

    def target(self, url: str, workload: Workload) -> Target:
        return Target(url, workload.body, f"Bearer {self.key}")

    def metric(self, name: str) -> dict[str, float]:
        """Values by their labels, as the admin port writes them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/-/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def settle(self) -> None:
        """Until the usage of all calls is booked."""
        deadline = time.monotonic() + _BOOKED_WITHIN_S
        time.sleep(_LAG_MEASURED_S)
        while any(self.metric("tailcut_usage_unbooked_bytes").values()):
            if time.monotonic() > deadline:
                raise PeerError(f"usage is not booked {_BOOKED_WITHIN_S:.0f} s after the load; see {self.data / 'log'}")
            time.sleep(0.2)

    def pids(self) -> dict[str, int]:
        """Processes of the server by name."""
        command = [script("tailcut-server"), "status", "--json", "--data-dir", str(self.data)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(), cwd=ROOT)
        status = json.loads(result.stdout)
        children = {name: int(child["pid"]) for name, child in status["children"].items()}
        return {**children, "supervisor": int(status["pid"])}

    def workers(self) -> list[int]:
        """Processes whose parent is the zygote, but for the one that they are forked from."""
        zygote = next(pid for name, pid in self.pids().items() if "zygote" in name)
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_worker(path, zygote)]

    def _catalog(self) -> Path:
        """Ours, with other limits for the development tier."""
        head, mark, rest = _CATALOG.read_text().partition('name = "development"')
        for name, value in _UNBOUND.items():
            rest = re.sub(rf"^{name} = .*$", f"{name} = {value}", rest, count=1, flags=re.MULTILINE)
        path = self.folder / "catalog.toml"
        path.write_text(head + mark + rest)
        path.chmod(0o644)
        return path


def _is_worker(process: Path, zygote: int) -> bool:
    try:
        # PID (NAME) STATE PARENT …; a name may hold anything.
        name, _mark, rest = (process / "stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(rest.split()[1]) == zygote and not name.endswith("(template")


def private_bytes(pid: int) -> int:
    """Memory that nobody shares with this process: its own pages, and the file of a fresh worker's checkpoint.

    Pages are counted in /proc/PID/pagemap (present, not of a file, mapped nowhere else): smaps calls a page of a shared
    file private, too, when it happens to be mapped once.
    """
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    pages = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for line in maps:
            words = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in words[0].split("-"))
            if start >> 63 or words[1][3] == "s":
                continue
            pagemap.seek(start // page_bytes * 8)
            entries = memoryview(pagemap.read((end - start) // page_bytes * 8)).cast("Q")
            pages += sum(1 for entry in entries if entry >> 63 and not entry >> 61 & 1 and entry >> 56 & 1)
    files = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # The process may close one meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if "memfd:tailcut-checkpoint" in str(descriptor.readlink()):
                files += descriptor.stat().st_blocks * 512
    return pages * page_bytes + files
