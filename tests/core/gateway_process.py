"""The data plane alone in a process, driven by JSON lines: commands on stdin, answers on stdout.

Run as a program: ``python gateway_process.py CONFIG_JSON``; the listening sockets are inherited. One gateway per
process is the library's rule, so every test that wants its own has its own process.
"""

import json
import select
import struct
import sys
from typing import Any

from gateway.core import binding

EVENT = struct.Struct("<IHHIIQ16sii")
EVENT_KINDS = {1: "ready", 2: "start_failed", 3: "log", 4: "exited", 5: "drained", 6: "lost"}


class Gateway:
    def __init__(self, options: dict[str, Any]) -> None:
        self.library = binding.load()
        self.ffi = binding.ffi
        self.error = self.ffi.new("zc_error *")
        self.events_buffer = self.ffi.new("uint8_t[]", 1 << 20)
        ffi = self.ffi
        self.kept = [
            ffi.new("uint32_t[]", options["cpus"]),
            ffi.new("int[]", options["listen_fds"]),
            ffi.new("char[]", options["zygote_path"].encode()),
            ffi.new("char[]", b"https://docs.example/errors/"),
            ffi.new("char[]", options.get("base_domain", "").encode()),
        ]
        config = ffi.new("zc_gateway_config *")
        config.abi_version = binding.ABI_VERSION
        config.reactors_count = len(options["cpus"])
        reserved = ffi.new("uint32_t[]", options.get("reserved_cpus", []))
        self.kept_reserved = reserved
        config.reserved_cpus, config.reserved_cpus_count = reserved, len(reserved)
        config.reserved_sellable_ppm = options.get("reserved_sellable_ppm", 900_000)
        config.reactor_cpus, config.listen_fds, config.zygote_path, config.problem_base_url, config.base_domain = (
            self.kept
        )
        config.node = 0x0102030405060708
        config.connections_max = options.get("connections_max", 2048)
        config.body_bytes_max = options.get("body_bytes_max", 6 * 2**20)
        for name, seconds in {
            "header_timeout_ns": 10,
            "body_timeout_ns": 30,
            "idle_timeout_ns": 75,
            "write_timeout_ns": 30,
            "queue_timeout_ns": 10,
            "worker_idle_timeout_ns": 60,
        }.items():
            setattr(config, name, int(options.get(name.removesuffix("_ns"), seconds) * 1e9))
        binding.check(self.library.zc_gateway_init(config, self.error), self.error)

    def command(self, name: str, argument: Any) -> Any:
        match name:
            case "apply":
                document = argument.encode() if isinstance(argument, str) else json.dumps(argument).encode()
                return self.result(self.library.zc_gateway_apply(document, len(document), self.error))
            case "start":
                started = self.result(self.library.zc_gateway_start(self.error))
                if started["status"] == 0:
                    binding.check(self.library.zc_gateway_listen())
                return started
            case "drain":
                return self.library.zc_gateway_drain()
            case "stop":
                return self.library.zc_gateway_stop()
            case "metrics":
                buffer = self.ffi.new("uint8_t[]", 1 << 20)
                return json.loads(bytes(self.ffi.buffer(buffer, self.library.zc_gateway_metrics(buffer, 1 << 20))))
            case "key_uses":
                buffer = self.ffi.new("uint8_t[]", 1 << 16)
                return json.loads(bytes(self.ffi.buffer(buffer, self.library.zc_gateway_key_uses(buffer, 1 << 16))))
            case "serve_until":
                return self.library.zc_gateway_serve_until(argument)
            case "events":
                return self.events(argument)
        raise ValueError(name)

    def result(self, status: int) -> dict[str, Any]:
        return {"status": status, "error": self.ffi.string(self.error.text).decode() if status else ""}

    def events(self, wait_s: float) -> list[dict[str, Any]]:
        """What has happened; waits for something at most ``wait_s``."""
        select.select([self.library.zc_gateway_event_fd()], [], [], wait_s)
        count = self.library.zc_gateway_events(self.events_buffer, len(self.events_buffer))
        data, out, at = bytes(self.ffi.buffer(self.events_buffer, count)), [], 0
        while at < len(data):
            size, kind, stream, version, payload_bytes, _, invocation, pid, status = EVENT.unpack_from(data, at)
            payload = data[at + EVENT.size : at + EVENT.size + payload_bytes].decode()
            out.append(
                {
                    "kind": EVENT_KINDS[kind],
                    "stream": stream,
                    "version": version,
                    "invocation": invocation.hex(),
                    "pid": pid,
                    "status": status,
                    "payload": payload,
                }
            )
            at += size
        return out


def main() -> None:
    gateway = Gateway(json.loads(sys.argv[1]))
    for line in sys.stdin:
        name, argument = json.loads(line)
        print(json.dumps(gateway.command(name, argument)), flush=True)


if __name__ == "__main__":
    main()
