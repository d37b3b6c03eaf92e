"""What we must be able to read again is not readable in a copy of the database: second factors' secrets, mails.

The key is a file beside the database, never in it. Encrypt-then-MAC from the standard library's parts: the stream is
SHAKE-256 of key and a fresh salt, the tag HMAC-SHA-256 of salt and ciphertext under another key. ``purpose`` keeps what
was sealed for one thing from being opened as another.
"""

import hashlib
import hmac
import secrets
from typing import Final

_SALT_BYTES: Final = 16
_TAG_BYTES: Final = 32


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, purpose: str, plain: bytes) -> bytes:
        salt = secrets.token_bytes(_SALT_BYTES)
        body = _mask(self._derived(purpose, "stream"), salt, plain)
        return salt + body + self._tag(purpose, salt + body)

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """Raises ValueError: changed, sealed for something else, or with another key."""
        body, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        if len(body) < _SALT_BYTES or not hmac.compare_digest(self._tag(purpose, body), tag):
            raise ValueError(f"what was sealed for {purpose} does not open: has sealing-key been replaced?")
        return _mask(self._derived(purpose, "stream"), body[:_SALT_BYTES], body[_SALT_BYTES:])

    def derive(self, purpose: str, subject: str) -> bytes:
        """32 bytes that only the holder of the key can make: a secret that need not be stored."""
        return hmac.digest(self._derived(purpose, "derive"), subject.encode(), "sha256")

    def _tag(self, purpose: str, content: bytes) -> bytes:
        return hmac.digest(self._derived(purpose, "tag"), content, "sha256")

    def _derived(self, purpose: str, use: str) -> bytes:
        return hmac.digest(self._key, f"tailcut {purpose} {use}".encode(), "sha256")


def _mask(key: bytes, salt: bytes, data: bytes) -> bytes:
    stream = hashlib.shake_256(key + salt).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))
