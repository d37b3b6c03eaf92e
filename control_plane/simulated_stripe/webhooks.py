"""Events: made in the transaction of what they tell, delivered by a thread until the receiver says 2xx.

``record`` is called by everything that changes an object. The signature is Stripe's scheme v1: an HMAC-SHA256 of
``{time}.{body}`` (https://docs.stripe.com/webhooks/signature).
"""

import hashlib
import hmac
import json
import threading
import time
import urllib.error
import urllib.request
from typing import Final

from control_plane.simulated_stripe.objects import Object, make
from control_plane.simulated_stripe.store import Store, new_id, shown

_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_LAST_S: Final = 15.0
_ROUND_S: Final = 0.5
_TIMEOUT_S: Final = 10.0
_BATCH_MAX: Final = 20
_bell = threading.Event()


def record(store: Store, kind: str, body: Object) -> None:
    event = make(
        "event",
        id=new_id("evt"),
        type=kind,
        api_version=None,
        created=store.now(),
        data={"object": shown(body)},
    )
    store.save(event)
    store.connection.execute("INSERT INTO deliveries (event, attempts, next_at) VALUES (?, 0, 0)", (event["id"],))
    _bell.set()


def sign(body: str, secret: str, at: int) -> str:
    """The value of the header ``Stripe-Signature``."""
    mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


class Delivery(threading.Thread):
    """Delivers in the order of the events; a refused one is tried again later and does not hold up the rest."""

    def __init__(self, store: Store, lock: threading.Lock, url: str, secret: str) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._store, self._lock, self._url, self._secret = store, lock, url, secret

    def run(self) -> None:
        while True:
            if not self.round():
                _bell.wait(_ROUND_S)
                _bell.clear()

    def round(self) -> bool:
        """False: nothing was due."""
        with self._lock:
            due = self._store.connection.execute(
                "SELECT event, attempts, body FROM deliveries JOIN objects ON objects.id = event "
                "WHERE next_at <= ? ORDER BY next_at, number LIMIT ?",
                (time.time(), _BATCH_MAX),
            ).fetchall()
        for event_id, attempts, body in due:
            delivered = self._deliver(json.dumps(shown(json.loads(body))))
            with self._lock, self._store.transaction():
                if delivered:
                    self._store.connection.execute("DELETE FROM deliveries WHERE event = ?", (event_id,))
                else:
                    backoff_s = min(_BACKOFF_FIRST_S * 2 ** min(attempts, 16), _BACKOFF_LAST_S)
                    self._store.connection.execute(
                        "UPDATE deliveries SET attempts = attempts + 1, next_at = ? WHERE event = ?",
                        (time.time() + backoff_s, event_id),
                    )
        return bool(due)

    def _deliver(self, body: str) -> bool:
        signature = sign(body, self._secret, int(time.time()))
        request = urllib.request.Request(  # noqa: S310 - the address is a setting of ours
            self._url,
            data=body.encode(),
            headers={"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return bool(200 <= answer.status < 300)
        except (urllib.error.URLError, OSError):
            return False
