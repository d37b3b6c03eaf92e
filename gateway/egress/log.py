"""The egress's log: JSON lines on stderr, which the supervisor writes to a file. No payload, no path, no header.

Called by ``server`` for each refusal and by ``__main__`` each minute with what tenants used. What always holds: a
tenant that is refused a thousand times a second fills no disk: some lines each second, and how many were left out.
"""

import json
import sys
import time
from datetime import UTC, datetime

from gateway.egress.allowance import Version
from gateway.egress.refusal import Refused

_REFUSALS_PER_S = 20


class Log:
    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def say(self, event: str, **about: object) -> None:
        line = {"event": event, **about, "timestamp": datetime.now(UTC).isoformat()}
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()

    def refused(self, version: Version, refused: Refused) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > _REFUSALS_PER_S:
            self._left_out += 1
            return
        about = {"tenant": version.tenant.name, "function": version.function, "version": version.id}
        where = {"host": refused.host, "port": refused.port} if refused.host else {}
        self.say("egress refused", **about, rule=refused.rule, **where, left_out=self._left_out)
        self._left_out = 0
