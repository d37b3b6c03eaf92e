"""Months of Unix times. Called by ``subscriptions``: a month from an anchor keeps the anchor's day where it can."""

import calendar
from datetime import UTC, datetime


def add_months_unix(anchor: int, months: int) -> int:
    at = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())
