"""Identifiers: a prefix that says what it is, then 26 characters that sort by the time of making.

Forty-eight bits of milliseconds and eighty random ones (the layout of a ULID) in Crockford's alphabet, lower case.
Within one process they rise strictly, so that "newest first" is right also within a millisecond.
"""

import secrets
import threading
import time
from typing import Final, Literal

_OfOperators = Literal["ope", "rec"]
_OfPeople = Literal["per", "mem", "ivt", "ses", "aud", "mail"]
Prefix = (
    Literal["tnt", "key", "fn", "ver", "mov", "req", "tv", "av", "pur", "inv", "trn", "alr"] | _OfPeople | _OfOperators
)

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS: Final = 80
ID_PATTERN: Final = r"^{prefix}_[0-9a-hjkmnp-tv-z]{{26}}$"

_lock = threading.Lock()
_last = 0


def new_id(prefix: Prefix) -> str:
    global _last  # noqa: PLW0603 - the last one made, to rise strictly
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        _last = max(fresh, _last + 1)
        value = _last
    digits = [_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def pattern(prefix: Prefix) -> str:
    """A regular expression of such ids, for path parameters."""
    return ID_PATTERN.format(prefix=prefix)
