"""A deploy's steps on a terminal: one line each, with bytes and time; nothing at all without a terminal.

Called by the command deploy. The notes are printed in any case.
"""

from types import TracebackType
from typing import Self

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from tailcut._cli.console import clean, err

_WORDS = {"resolve": "Resolve", "install": "Install", "pack": "Pack", "upload": "Upload", "start": "Start"}
_DOING = {
    "resolve": "asking the package index",
    "install": "fetching wheels",
    "pack": "",
    "upload": "",
    "start": "waiting until a worker is ready",
}


class Display:
    """Implements ``tailcut.Progress``."""

    def __init__(self) -> None:
        self._rich = Progress(
            _Mark(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            _ElapsedColumn(),
            _BarWhileRunning(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=err,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bytes: dict[str, int | None] = {}

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._rich.tasks:
            if not task.finished:
                # What was under way when it failed: the reason is printed below.
                self._rich.update(task.id, description=f"[red]{task.description}[/]", detail="failed", failed=True)
                self._rich.stop_task(task.id)
        self._rich.stop()

    def begin(self, step: str, total_bytes: int | None = None) -> None:
        word = f"{_WORDS.get(step, step):<8}"
        self._tasks[step] = self._rich.add_task(word, total=total_bytes or None, detail=_DOING.get(step, ""))

    def advance(self, step: str, count_bytes: int) -> None:
        task = self._rich.tasks[self._tasks[step]]
        self._rich.advance(task.id, count_bytes)
        total = f" of {_size(int(task.total))}" if task.total else ""
        self._rich.update(task.id, detail=f"{_size(int(task.completed))}{total}")

    def end(self, step: str, detail: str) -> None:
        self._rich.update(self._tasks[step], total=1, completed=1, detail=clean(detail))

    def note(self, text: str) -> None:
        self._rich.console.print(Text(f"note: {clean(text)}", style="yellow"))


class _Mark(SpinnerColumn):
    """Turning, done or failed."""

    def render(self, task: Task) -> RenderableType:
        return Text("✗", style="red") if task.fields.get("failed") else super().render(task)


class _BarWhileRunning(BarColumn):
    """A bar for steps with a size, while they run."""

    def __init__(self) -> None:
        super().__init__(bar_width=24)

    def __call__(self, task: Task) -> RenderableType:
        return Text("") if task.finished or task.total is None else super().__call__(task)


class _ElapsedColumn(ProgressColumn):
    """Seconds of the step."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0.0:5.1f} s", style="cyan")


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"
