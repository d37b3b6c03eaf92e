"""POST with an ``Idempotency-Key``: the effect happens once, the same answer is given again.

The record is written in the transaction of the effect, so there is never one without the other. An answer may hold
a new key's token, which must not lie readable in the database: it is sealed with a stream derived from the caller's
own token, which we do not keep. So only the key that made a request gets its answer again.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import Depends, Header
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository
from control_plane.auth.principal import Operator, Principal
from control_plane.context import Context
from control_plane.models import IdempotencyRecord
from control_plane.problems import Problem

REPLAYED_HEADER: Final = "Idempotent-Replayed"
_SALT_BYTES: Final = 16
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: dict[str, Any] = field(repr=False)
    replayed: bool = False

    def response(self) -> JSONResponse:
        headers = {REPLAYED_HEADER: "true"} if self.replayed else {}
        return JSONResponse(self.content, status_code=self.status, headers=headers)


def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=128,
            pattern=r"^[!-~]+$",
            description="A repetition with the same key and the same request has no effect and gets the same answer",
        ),
    ] = None,
) -> str | None:
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


def fingerprint_of(method: str, path: str, content: Any) -> str:
    """What makes two requests the same."""
    text = json.dumps([method, path, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def answer_once(
    context: Context,
    caller: Principal | Operator,
    idempotency_key: str | None,
    fingerprint: str,
    act: Callable[[AsyncSession], Awaitable[Answer]],
) -> Answer:
    """Run ``act`` in one transaction, or give the answer that it had."""
    for attempt in range(_ATTEMPTS):
        try:
            async with context.writing() as session:
                if idempotency_key is None:
                    return await act(session)
                record = await repository.find_idempotency_record(session, caller.owner, idempotency_key)
                if record is not None:
                    return _replay(record, caller, fingerprint)
                answer = await act(session)
                session.add(_seal(answer, caller, idempotency_key, fingerprint))
            return answer
        except IntegrityError:
            # PostgreSQL: somebody else committed the same row meanwhile; a second look finds it.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def _seal(answer: Answer, caller: Principal | Operator, idempotency_key: str, fingerprint: str) -> IdempotencyRecord:
    salt = secrets.token_bytes(_SALT_BYTES)
    plain = json.dumps([answer.status, answer.content]).encode()
    return IdempotencyRecord(
        owner=caller.owner,
        idempotency_key=idempotency_key,
        caller=caller.key_id,
        fingerprint=fingerprint,
        salt=salt,
        sealed_answer=_mask(plain, caller.token, salt),
    )


def _replay(record: IdempotencyRecord, caller: Principal | Operator, fingerprint: str) -> Answer:
    if record.caller != caller.key_id:
        raise Problem(
            "idempotency-conflict", "Another key of this tenant has used this Idempotency-Key; take a new one."
        )
    if record.fingerprint != fingerprint:
        raise Problem(
            "idempotency-conflict",
            "This Idempotency-Key was used for a request with another path or body; take a new one for each request.",
        )
    status, content = json.loads(_mask(record.sealed_answer, caller.token, record.salt))
    return Answer(status, content, replayed=True)


def _mask(data: bytes, token: str, salt: bytes) -> bytes:
    """Exclusive-or with SHAKE-256(salt, token); the salt is never used twice, so neither is the stream."""
    stream = hashlib.shake_256(salt + token.encode()).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))
