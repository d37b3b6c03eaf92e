"""Numbers of versions in revisions (``VersionRow.index``): stable while a version lives, rested before reuse.

A worker may outlive its version's row for a while; an event that it raises must not be taken for another version's.
"""

from collections import deque

VERSIONS_MAX = 64 * 1024
"""versions_max of limits.zig"""


class OutOfIndexes(Exception):  # noqa: N818 - named after what happened
    """All numbers are in use or resting."""


class Indexes:
    """Gives numbers to version ids; time comes from the caller (monotonic seconds)."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._by_id: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._resting: deque[tuple[float, int]] = deque()
        self._next = 0

    def of(self, version_id: str, now: float) -> int:
        """The version's number; a new one if it has none."""
        if version_id not in self._by_id:
            index = self._take(now)
            self._by_id[version_id] = index
            self._names[index] = version_id
        return self._by_id[version_id]

    def name(self, index: int) -> str | None:
        """The version id of a number, also while the number rests."""
        return self._names.get(index)

    def release(self, version_id: str, now: float) -> None:
        index = self._by_id.pop(version_id, None)
        if index is not None:
            self._resting.append((now, index))

    def _take(self, now: float) -> int:
        if self._resting and now - self._resting[0][0] >= self._rest_s:
            return self._resting.popleft()[1]
        if self._next >= VERSIONS_MAX:
            raise OutOfIndexes(f"{VERSIONS_MAX} versions live or rest on this node, the most that limits.zig allows")
        self._next += 1
        return self._next - 1
