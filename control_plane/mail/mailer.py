"""Sends the mails that wait: over SMTP, or, where no server is set, to the log (development).

A task of ``app``'s lifespan, woken after each commit that wrote a mail. A mail that the server does not take now is
tried again with growing pauses for a day and then dropped, which is said in the log. A crash between the server's
"yes" and our deletion sends a mail twice; its link still works once.
"""

import asyncio
import contextlib
import smtplib
import ssl
from datetime import timedelta
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_plane.context import Context
from control_plane.mail import repository
from control_plane.mail.messages import NOBODY, SEALED_FOR
from control_plane.models import Mail, now
from control_plane.settings import Settings

log = structlog.get_logger(__name__)

BATCH_COUNT: Final = 20
POLL: Final = timedelta(seconds=5)
"""Without the bell: for mails to try again, and those of other control planes that died."""
RETRY_FIRST: Final = timedelta(seconds=10)
RETRY_LAST: Final = timedelta(hours=1)
KEPT: Final = timedelta(days=1)


class Mailer:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._context.mail_bell.clear()
            try:
                while await self._round():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("mailer-failed", error=type(error).__name__, message=str(error)[:200])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL.total_seconds()):
                    await self._context.mail_bell.wait()

    async def _round(self) -> bool:
        """Whether there may be more. A mail is put off first, so that no crash makes a tight loop of it."""
        at = now()
        async with self._context.writing() as session:
            await repository.delete_mails_before(session, at - KEPT)
            mails = list(await repository.due_mails(session, at, BATCH_COUNT))
            for mail in mails:
                mail.due_at = at + min(RETRY_FIRST * 4**mail.attempts_count, RETRY_LAST)
                mail.attempts_count += 1
        for mail in mails:
            await self._send(mail)
        return len(mails) == BATCH_COUNT

    async def _send(self, mail: Mail) -> None:
        settings = self._context.settings
        try:
            text = self._context.sealer.open(SEALED_FOR, mail.sealed_text).decode()
        except ValueError as error:
            log.error("mail-dropped", mail=mail.id, message=str(error))
        else:
            if mail.recipient == NOBODY:
                pass
            elif not settings.smtp_url:
                # The one place where a credential is logged: in development the log is the letter box.
                log.warning("mail", to=mail.recipient, subject=mail.subject, text=text)
            else:
                try:
                    await asyncio.to_thread(deliver, settings, mail.recipient, mail.subject, text)
                except (smtplib.SMTPException, OSError) as error:
                    log.warning("mail-failed", mail=mail.id, attempts=mail.attempts_count, error=type(error).__name__)
                    return
                log.info("mail-sent", mail=mail.id)
        async with self._context.writing() as session:
            await repository.delete_mail(session, mail.id)


def deliver(settings: Settings, recipient: str, subject: str, text: str) -> None:
    """One mail over SMTP, blocking. With credentials only over TLS. Raises SMTPException or OSError."""
    url = urlsplit(settings.smtp_url)
    timeout_s = settings.smtp_timeout.total_seconds()
    host = url.hostname or "localhost"
    tls = ssl.create_default_context()
    server: smtplib.SMTP
    if url.scheme == "smtps":
        server = smtplib.SMTP_SSL(host, url.port or 465, timeout=timeout_s, context=tls)
    else:
        server = smtplib.SMTP(host, url.port or 587, timeout=timeout_s)
    with server:
        if url.scheme != "smtps" and (url.username or _offers_tls(server)):
            server.starttls(context=tls)
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
        server.send_message(_message(settings, recipient, subject, text))


def _offers_tls(server: smtplib.SMTP) -> bool:
    server.ehlo_or_helo_if_needed()
    return server.has_extn("starttls")


def _message(settings: Settings, recipient: str, subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain=parseaddr(settings.mail_from)[1].rpartition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message
