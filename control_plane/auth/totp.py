"""The second factor: time-based one-time passwords, RFC 6238 with SHA-1, six digits and steps of 30 s.

That is what every authenticator application does by default. Called by ``people.service``, which keeps the step of the
last code taken, so that a code is good once.
"""

import base64
import hashlib
import hmac
import io
import secrets
import time
from typing import Final
from urllib.parse import quote

import segno

DIGITS: Final = 6
STEP_S: Final = 30
STEPS_AROUND: Final = 1
"""Earlier and later codes that are taken too: clocks differ, people type slowly (RFC 6238, 5.2)."""
SECRET_BYTES: Final = 20


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: bytes, code: str, *, after_step: int, at_s: float | None = None) -> int | None:
    """The step whose code this is, later than ``after_step``; None: none is."""
    now_step = int((time.time() if at_s is None else at_s) // STEP_S)
    given = code.replace(" ", "").encode()
    found = None
    for step in range(now_step - STEPS_AROUND, now_step + STEPS_AROUND + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), given) and step > after_step:
            found = step
    return found


def secret_text(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, email: str) -> str:
    """What the QR code says (the Key URI format that authenticators share)."""
    return f"otpauth://totp/{quote(f'Tailcut:{email}')}?secret={secret_text(secret)}&issuer=Tailcut"


def qr_svg(text: str) -> str:
    """An SVG element without styles or scripts: a path, black on white whatever the theme."""
    image = io.BytesIO()
    segno.make(text, error="m").save(
        image, kind="svg", xmldecl=False, svgns=True, border=4, light="#fff", omitsize=True
    )
    return image.getvalue().decode()


def new_recovery_codes(count: int) -> list[str]:
    """Eighty bits each, in groups that can be typed."""
    codes = []
    for _ in range(count):
        text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        codes.append("-".join(text[start : start + 4] for start in range(0, 16, 4)))
    return codes


def recovery_hash(person_id: str, code: str) -> str:
    cleaned = code.strip().lower().replace(" ", "").replace("-", "")
    return hashlib.sha256(f"{person_id}:{cleaned}".encode()).hexdigest()
