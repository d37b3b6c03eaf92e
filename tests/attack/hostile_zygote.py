"""The fake zygote of tests/core with workers that cheat in ways an honest runtime never would.

Run as a program: ``python hostile_zygote.py SOCKET_PATH``. A request's path chooses the attack, as there.
"""

import os
import sys
import time
from pathlib import Path

from tests.core import fake_zygote


class Hostile(fake_zygote.Worker):
    def serve(self, call: fake_zygote.Call) -> None:
        if call.path.split("/")[1] == "deaf":
            self.deaf(call)
        super().serve(call)

    def deaf(self, call: fake_zygote.Call) -> None:
        """Answers ``n`` invocations without reading their frames, dies, and leaves a child that reads them later."""
        if os.fork() == 0:
            self.loot(Path(call.query["go"]), Path(call.query["loot"]))
        time.sleep(0.5)  # so that the other callers are queued behind this one
        for ahead in range(int(call.query["n"])):
            self.channel.send(self.frame(fake_zygote.ANSWER_KIND, call.sequence + ahead, 200))
            time.sleep(0.01)
        os._exit(0)

    def loot(self, go: Path, loot: Path) -> None:
        """Once ``go`` exists: whatever the channel still holds goes to ``loot``."""
        try:
            deadline = time.monotonic() + 30
            while not go.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            found = b""
            self.channel.settimeout(0.5)
            for _ in range(2):  # "connection reset" comes once, before what is still there
                try:
                    while frame := self.channel.recv(1 << 17):
                        found += frame
                except OSError:
                    continue
            partly = loot.with_suffix(".part")
            partly.write_bytes(found)
            partly.rename(loot)
        finally:
            os._exit(0)


if __name__ == "__main__":
    fake_zygote.Worker = Hostile  # type: ignore[misc]
    fake_zygote.Zygote(sys.argv[1]).run()
