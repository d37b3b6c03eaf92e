"""The supervisor: starts the tree in order, keeps it alive, reloads the gateway, ends it all.

    sockets → Valkey, control plane (it brings its schema up to date), zygote, egress, gateway at once
            → everything healthy
    stop: gateway (it drains) → zygote → egress → control plane → Valkey → whatever is left

A child that dies is started again with back-off. SIGHUP reloads the gateway: a new one starts beside the old one on
the same sockets, and only when it is ready the old one drains; a new one that dies changes nothing.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from gateway.cgroup.hierarchy import discover
from gateway.cgroup.instance import destroy, instance_name, sweep_dead
from gateway.cgroup.partition import release, sweep_dead_partitions
from gateway.settings import SupervisorSettings
from gateway.supervisor import checks, programs, simulated_stripe, sockets
from gateway.supervisor.child import Log, LogFile, Process, Program, Spawner, stop
from gateway.supervisor.console import Screen
from gateway.supervisor.instance import Instance
from gateway.supervisor.problems import EXIT_CHILD_FAILED, CannotStart
from gateway.supervisor.reaper import Reaper

_POLL_S = 0.05
_LAST_WORDS_S = 0.05


class Keeper:
    """Keeps one program running: restarts it with back-off until it is told to stop."""

    def __init__(self, tree: "Tree", name: str, program: Callable[[], Program]) -> None:
        self.name = name
        self.process: Process | None = None
        self.restarts = 0
        self.was_healthy = False
        self._tree = tree
        self._program = program
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        """In a row."""

    def start(self) -> None:
        """Raises CannotStart if the program cannot be executed."""
        self.process = self._tree.spawn(self._program())
        self._task = asyncio.create_task(self._keep())

    def replace(self, process: Process) -> Process | None:
        """``process`` is the one to keep from now on; returns the one before."""
        before, self.process = self.process, process
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._keep())
        return before

    async def stop(self, timeout_s: float) -> None:
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
        if self.process is not None:
            await stop(self.process, signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
        if self.process is not None:
            self.process.send(signal.SIGKILL)

    async def _keep(self) -> None:
        settings = self._tree.settings
        while True:
            process = self.process
            if process is None:
                return
            await process.ended.wait()
            if self._stopping:
                return
            self._tree.child_died(self, process)
            # Its last words come through a pipe, perhaps after the exit.
            await asyncio.sleep(_LAST_WORDS_S)
            self._tree.say_died(self, process)
            if self.was_healthy and self.name not in settings.supervise:
                return
            lived_s = time.monotonic() - process.started_s
            self._failures = 0 if lived_s > settings.restart_quiet.total_seconds() else self._failures + 1
            if not self.was_healthy and self._failures >= settings.start_attempts_max:
                self._tree.give_up(
                    f"{self.name} does not start: it {process.how_it_ended()}, {self._failures} times in a row"
                )
                return
            backoff_s = settings.restart_backoff_first.total_seconds() * 2 ** min(max(self._failures - 1, 0), 16)
            if self._failures:
                await asyncio.sleep(min(backoff_s, settings.restart_backoff_max.total_seconds()))
            self.restarts += 1
            try:
                self.process = self._tree.spawn(self._program())
            except OSError as error:
                self._tree.give_up(f"{self.name} cannot be started: {error}")
                return
            self._tree.write_status()


class Tree:
    """The whole of Tailcut on this machine."""

    def __init__(self, settings: SupervisorSettings, screen: Screen) -> None:
        """Checks the machine and opens the sockets. Raises CannotStart."""
        self.settings = settings
        self.screen = screen
        checks.require_features()
        self.cpus = checks.shared_cpus(settings.cpus, settings.reserved_cpus)
        if settings.reserved_cpus:
            # All that is ours and does not belong there stays off them; the children inherit it.
            os.sched_setaffinity(0, os.sched_getaffinity(0) - set(settings.reserved_cpus))
        data_dir = prepare_folder(settings.data_dir)
        self.instance = Instance(data_dir)
        try:
            run_dir = sockets.run_folder(data_dir)
            self.listeners = sockets.open_listeners(
                settings.host,
                settings.gateway_port,
                settings.admin_port,
                settings.control_plane_port,
                len(self.cpus),
                settings.listen_backlog,
                run_dir,
            )
            self.stripe = None if settings.stripe_api_key else simulated_stripe.find(data_dir)
        except CannotStart:
            self.instance.release()
            raise
        self.places = programs.find_places(settings, data_dir, run_dir, self.listeners)
        self.group = instance_name(os.getpid())
        for stuck in sweep_dead(discover()):
            self.screen.say(f"a control group of a server that is dead cannot be removed: {stuck}", "yellow")
        for stuck in sweep_dead_partitions(discover()):
            text = f"the partition of a CPU that a dead server had reserved cannot be dissolved: {stuck}"
            self.screen.say(text, "yellow")
        self.keepers: list[Keeper] = []
        self.stop_requested = asyncio.Event()
        self.failure: CannotStart | None = None
        self._reaper = Reaper()
        self._spawner = Spawner(self._reaper)
        self._logs: dict[str, Log] = {}
        self._stop_signals = 0
        self._state = "starting"
        self._reload: asyncio.Task[None] | None = None
        self._old: Process | None = None
        """A gateway that drains after a reload."""

    async def run(self, when_up: Callable[["Tree"], Awaitable[None]]) -> None:
        """Until a signal: starts, calls ``when_up``, waits, stops. Raises CannotStart if it cannot start."""
        loop = asyncio.get_running_loop()
        self._reaper.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        starting = asyncio.create_task(self._start(when_up))
        stopping = asyncio.create_task(self.stop_requested.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
            starting.cancel()
        finally:
            stopping.cancel()
            await self._stop()
        if self.failure is not None:
            raise self.failure

    def spawn(self, program: Program) -> Process:
        log = self._log(program.name)
        log.tail.clear()
        return self._spawner.start(program, log)

    async def run_once(self, program: Program, timeout_s: float) -> Process:
        """A short program (migrate, create-tenant). Raises CannotStart with its last words if it fails."""
        log = self._log(program.name)
        try:
            process = await self._spawner.run(program, log, timeout_s)
        except OSError as error:
            raise CannotStart(f"{' '.join(program.argv)} cannot be executed: {error}", EXIT_CHILD_FAILED) from error
        if process.status != 0:
            self.screen.tail(program.name, list(log.tail)[-15:])
            raise CannotStart(f"`{' '.join(program.argv[2:])}` {process.how_it_ended()}", EXIT_CHILD_FAILED)
        return process

    def child_died(self, keeper: Keeper, process: Process) -> None:
        """Removes what a dead gateway may have left to us."""
        if process.program.name == "gateway" and (self._old is None or not self._old.alive):
            self._reaper.kill_orphans()

    def say_died(self, keeper: Keeper, process: Process) -> None:
        """With its last words, if it had any to say: one that is killed has none."""
        self.screen.say(f"{keeper.name} (pid {process.pid}) {process.how_it_ended()}", "yellow")
        if process.status is not None and os.waitstatus_to_exitcode(process.status) >= 0:
            self.screen.tail(keeper.name, list(self._log(keeper.name).tail)[-10:])

    def give_up(self, reason: str) -> None:
        self.failure = CannotStart(f"{reason}; see {self.places.log_dir}", EXIT_CHILD_FAILED)
        self.stop_requested.set()

    def reload(self) -> None:
        """A new gateway beside the old one."""
        if self._reload is not None and not self._reload.done():
            self.screen.say("a reload is under way already")
            return
        self._reload = asyncio.create_task(self._reload_gateway())
        self._reload.add_done_callback(self._reload_ended)

    def write_status(self) -> None:
        try:
            self.instance.write(self.status())
        except OSError as error:  # a full disk must not stop the children, nor that they are started again
            text = f"supervisor.json cannot be written ({error.strerror}): `status` shows what was before"
            self.screen.say(text, "yellow")

    def mark_up(self) -> None:
        """Everything was shown to work: what `up --detach` waits for."""
        self._state = "up"
        self.write_status()

    def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        return {
            "state": self._state,
            "pid": os.getpid(),
            "gateway_url": self.places.gateway_url,
            "control_plane_url": self.places.control_plane_url,
            "dashboard_url": f"{self.places.control_plane_url}/",
            "admin_url": self.places.admin_url,
            "data_dir": str(self.places.data_dir),
            "log_dir": str(self.places.log_dir),
            "cpus": list(self.cpus),
            "reserved_cpus": list(self.settings.reserved_cpus),
            "children": {
                keeper.name: {"pid": keeper.process.pid, "restarts": keeper.restarts}
                for keeper in self.keepers
                if keeper.process is not None and keeper.process.alive
            },
        }

    # -- starting --------------------------------------------------------------------------------------------------

    async def _start(self, when_up: Callable[["Tree"], Awaitable[None]]) -> None:
        self.write_status()
        timeout_s = self.settings.start_timeout.total_seconds()
        async with asyncio.timeout(timeout_s) as deadline:
            try:
                await self._start_children()
                deadline.reschedule(None)
            except TimeoutError:
                waiting = ", ".join(keeper.name for keeper in self.keepers if not keeper.was_healthy)
                raise CannotStart(
                    f"not healthy within {timeout_s:g} s: {waiting}; see {self.places.log_dir}", EXIT_CHILD_FAILED
                ) from None
        self._state = "running"
        self.write_status()
        await when_up(self)

    async def _start_children(self) -> None:
        self.screen.say(f"starting Tailcut on {self.places.data_dir} (CPUs {','.join(str(cpu) for cpu in self.cpus)})")
        places, listeners = self.places, self.listeners
        # The slowest first. Who comes before Valkey tries again: that is also how its restarts are survived.
        control_plane = self._keep("control-plane", self._control_plane)
        zygote = self._keep("zygote", lambda: programs.zygote(listeners, self.group, self.settings.reserved_cpus))
        egress = self._keep("egress", lambda: programs.egress(places, listeners))
        gateway = self._keep("gateway", self._gateway)
        waiting = []
        if (stripe := self.stripe) is not None:
            self._keep("simulated-stripe", lambda: programs.simulated_stripe(places, stripe)).was_healthy = True
        if places.own_valkey:
            waiting.append(self._healthy(self._keep("valkey", lambda: programs.valkey(places)), self._valkey_answers))
        await asyncio.gather(
            *waiting,
            self._healthy(control_plane, lambda: self._answers(f"{places.control_plane_url}/healthz")),
            # No zygote without a jail that holds: one that says why it cannot is what `up` ends with.
            self._healthy(zygote, lambda: self._said_ready(zygote)),
            self._healthy(egress, lambda: self._said_ready(egress)),
            self._healthy(gateway, lambda: self._said_ready(gateway)),
        )

    def _control_plane(self) -> Program:
        return programs.control_plane(self.settings, self.places, self.stripe, "serve")

    def _gateway(self) -> Program:
        return programs.gateway(self.places, self.listeners, self.cpus, self.settings.reserved_cpus, os.getpid())

    def _keep(self, name: str, program: Callable[[], Program]) -> Keeper:
        keeper = Keeper(self, name, program)
        self.keepers.append(keeper)
        try:
            keeper.start()
        except OSError as error:
            raise CannotStart(f"{name} cannot be started: {error}", EXIT_CHILD_FAILED) from error
        self.write_status()
        return keeper

    async def _healthy(self, keeper: Keeper, is_healthy: Callable[[], Awaitable[bool]]) -> None:
        while not await is_healthy():  # noqa: ASYNC110 - another process cannot set an Event
            await asyncio.sleep(_POLL_S)
        keeper.was_healthy = True

    async def _valkey_answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.places.valkey_socket))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")  # -LOADING while it reads its file
        except OSError:
            return False
        finally:
            writer.close()

    @staticmethod
    async def _answers(url: str) -> bool:
        try:
            # No TLS on loopback, so no certificates: reading them takes longer than the question.
            async with httpx.AsyncClient(timeout=5.0, trust_env=False, verify=False) as client:  # noqa: S501
                return (await client.get(url)).is_success
        except httpx.HTTPError:
            return False

    @staticmethod
    async def _said_ready(keeper: Keeper) -> bool:
        return keeper.process is not None and keeper.process.ready.is_set() and keeper.process.alive

    # -- reload ----------------------------------------------------------------------------------------------------

    async def _reload_gateway(self) -> None:
        keeper = next((one for one in self.keepers if one.name == "gateway"), None)
        if keeper is None or not keeper.was_healthy:
            self.screen.say("nothing to reload yet: the gateway has not been ready")
            return
        self.screen.say("reloading the gateway")
        new = self.spawn(self._gateway())
        ready = asyncio.create_task(new.ready.wait())
        ended = asyncio.create_task(new.ended.wait())
        timeout_s = self.settings.start_timeout.total_seconds()
        await asyncio.wait({ready, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        ended.cancel()
        if not new.ready.is_set() or not new.alive:
            how = new.how_it_ended() if not new.alive else f"was not ready within {timeout_s:g} s"
            self.screen.say(f"the new gateway {how}; the old one serves on", "red")
            await stop(new, signal.SIGKILL)
            return
        self._old = keeper.replace(new)
        self.write_status()
        if self._old is not None:
            await stop(self._old, signal.SIGTERM, self.settings.stop_timeout.total_seconds())
            self._old = None
        self.screen.say("the gateway is reloaded")

    def _reload_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.screen.say(f"the reload failed: {type(error).__name__}: {error}", "red")

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._state = "stopping"
        self.write_status()
        if self._reload is not None:
            self._reload.cancel()
        timeout_s = self.settings.stop_timeout.total_seconds()
        by_name = {keeper.name: keeper for keeper in self.keepers}
        draining = [stop(self._old, signal.SIGTERM, timeout_s)] if self._old is not None else []
        for name in ("gateway", "zygote", "egress", "control-plane", "valkey", "simulated-stripe"):
            if name in by_name:
                await asyncio.gather(by_name[name].stop(timeout_s), *draining)
                draining = []
        while self._reaper.kill_orphans():
            await asyncio.sleep(_POLL_S)
            self._reaper.reap()
        for stuck in release(self.group, discover()):
            self.screen.say(f"the partition of a reserved CPU cannot be dissolved: {stuck}", "yellow")
        destroy(self.group, discover())
        self.listeners.close()
        if self.stripe is not None:
            self.stripe.close()
        self.instance.release()
        if self.places.run_dir.parent != self.places.data_dir:
            with contextlib.suppress(OSError):
                self.places.valkey_socket.unlink(missing_ok=True)
                self.places.run_dir.rmdir()

    def _on_stop_signal(self) -> None:
        self._stop_signals += 1
        self.stop_requested.set()
        if self._stop_signals == 1:
            self.screen.say("stopping (once more: at once)")
            return
        for keeper in self.keepers:
            keeper.kill()
        if self._old is not None:
            self._old.send(signal.SIGKILL)

    def _log(self, name: str) -> Log:
        if name not in self._logs:
            path = self.places.log_dir / f"{name}.log"
            file = LogFile(path, self.settings.child_log_bytes_max, self.settings.child_log_files_max)
            self._logs[name] = Log(name, file, self.screen.child_line)
        return self._logs[name]


def prepare_folder(data_dir: Path) -> Path:
    """The data folder, made if it is not there, for nobody else's eyes. Raises CannotStart."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data_dir / "log").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotStart(f"the data folder {data_dir} cannot be used: {error.strerror} (--data-dir)") from None
    return data_dir.resolve()
