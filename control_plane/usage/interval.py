"""The time that a question is about. Called by the endpoints and pages of usage."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from control_plane.models import now
from control_plane.problems import Problem

TIMES_FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
TIMES_TO: Final = datetime(2200, 1, 1, tzinfo=UTC)
_DEFAULT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """``since`` ≤ t < ``until``, UTC."""

    since: datetime
    until: datetime

    def require(self, length_max: timedelta, where: str = "here") -> None:
        if self.until - self.since > length_max:
            raise Problem(
                "invalid-request",
                f"From since to until are {(self.until - self.since).days} days; {where} at most {length_max.days} "
                "are answered at once. Ask for less.",
            )


def interval_of(since: datetime | None, until: datetime | None) -> Interval:
    """With what was left out filled in. Raises Problem."""
    until = now() if until is None else until
    for name, at in (("since", since or until), ("until", until)):
        if not TIMES_FROM <= at <= TIMES_TO:
            raise Problem("invalid-request", f"{name} is {at.isoformat()}; it must be from 2020 to 2199.")
    since = until - _DEFAULT if since is None else since
    if since > until:
        raise Problem("invalid-request", f"since ({since.isoformat()}) lies after until ({until.isoformat()}).")
    return Interval(since.astimezone(UTC), until.astimezone(UTC))
