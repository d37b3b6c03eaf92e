"""What people see: few lines, a colour only where there is a terminal, a child's own lines only when they matter."""

import json

from rich.console import Console
from rich.text import Text

_COLOURS = {
    "gateway": "cyan",
    "control-plane": "magenta",
    "zygote": "green",
    "egress": "yellow",
    "valkey": "yellow",
    "simulated-stripe": "blue",
}
_ALARMING = ("warning", "error", "critical")


class Screen:
    """Standard error for what happens, standard output for results."""

    def __init__(self, *, verbose: bool) -> None:
        self.out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._verbose = verbose

    def say(self, text: str, style: str = "") -> None:
        self._err.print(Text(text, style=style))

    def child_line(self, name: str, line: str) -> None:
        """A line of a child's output: shown when it warns, or always with -v."""
        level, text = _read(line)
        if self._verbose or level in _ALARMING:
            shown = Text(f"{name:>13} ", style=_COLOURS.get(name, ""))
            shown.append(text, style="red" if level in ("error", "critical") else "")
            self._err.print(shown)

    def tail(self, name: str, lines: list[str]) -> None:
        """The last words of a child that failed."""
        for line in lines:
            self._err.print(Text(f"{name:>13} {line}", style="dim"))


def _read(line: str) -> tuple[str, str]:
    """(level, text) of a structured line; other lines have no level."""
    try:
        record = json.loads(line)
        level, event = str(record.pop("level")), str(record.pop("event"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return "", line
    for name in ("timestamp", "pid", "process", "node", "epoch", "logger"):
        record.pop(name, None)
    details = " ".join(f"{name}={value}" for name, value in record.items())
    return level, f"{event}  {details}" if details else event
