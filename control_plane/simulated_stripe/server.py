"""The HTTP side: who may ask, repeated requests, errors in Stripe's form, the pages' buttons.

One request at a time, each one transaction: the lock is also the promise that an event is recorded together with what
it tells. ``/simulator/…`` is not Stripe's: it moves the clock and starts disputes, for tests and for the curious.
"""

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from control_plane.simulated_stripe import forms, invoice_pdf, pages, payments, webhooks
from control_plane.simulated_stripe.checkout import Checkout
from control_plane.simulated_stripe.invoices import amount_of
from control_plane.simulated_stripe.problems import ApiError
from control_plane.simulated_stripe.routes import find, handlers
from control_plane.simulated_stripe.store import HIDDEN, Store, listed, new_id, shown
from control_plane.simulated_stripe.subscriptions import Subscriptions

_BODY_BYTES_MAX: Final = 2**20
_TICK_S: Final = 1.0
Answer = tuple[int, str, bytes, dict[str, str]]
"""Status, content type, body, headers"""


class Simulator:
    """The whole of it, without HTTP."""

    def __init__(self, store: Store, base_url: str, api_key: str) -> None:
        self.store = store
        self.lock = threading.Lock()
        self._api_key = api_key
        self._subscriptions = Subscriptions(store, base_url)
        self._checkout = Checkout(store, self._subscriptions, base_url)
        self._routes = handlers(store, self._subscriptions, self._checkout)

    def tick(self) -> None:
        """What the passing of time does: months end, checkouts expire."""
        with self.lock, self.store.transaction():
            self._subscriptions.renew_due()
            self._checkout.expire_due()

    def run_clock(self) -> None:
        while True:
            threading.Event().wait(_TICK_S)
            self.tick()

    # -- the API -----------------------------------------------------------------------------------------------------

    def api(self, method: str, target: str, body: str, authorization: str, idempotency_key: str | None) -> Answer:
        split = urlsplit(target)
        headers = {"Request-Id": new_id("req")}
        try:
            if not hmac.compare_digest(authorization.encode(), f"Bearer {self._api_key}".encode()):
                raise ApiError("Invalid API Key provided.", status=401)
            encoded = split.query if method == "GET" else "&".join(part for part in (split.query, body) if part)
            with self.lock, self.store.transaction():
                status, text, replayed = self._once(method, split.path, encoded, idempotency_key)
            if replayed:
                headers["Idempotent-Replayed"] = "true"
        except ApiError as error:
            status, text = error.status, json.dumps({"error": error.body})
        return status, "application/json", text.encode(), headers

    def _once(self, method: str, path: str, encoded: str, key: str | None) -> tuple[int, str, bool]:
        """A POST with an idempotency key that was answered before gets that answer; errors are not remembered."""
        if method != "POST" or key is None:
            return 200, self._act(method, path, encoded), False
        request = hashlib.sha256(f"{path}\n{encoded}".encode()).hexdigest()
        row = self.store.connection.execute(
            "SELECT request, status, body FROM answers WHERE key = ?", (key,)
        ).fetchone()
        if row is not None:
            if row[0] != request:
                raise ApiError(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            return int(row[1]), str(row[2]), True
        text = self._act(method, path, encoded)
        self.store.connection.execute("INSERT INTO answers VALUES (?, ?, 200, ?)", (key, request, text))
        return 200, text, False

    def _act(self, method: str, path: str, encoded: str) -> str:
        given = forms.decode(encoded)
        if path.startswith("/simulator/"):
            return json.dumps(shown(self._control(method, path, given)))
        found = find(self._routes, method, path)
        if found is None:
            raise ApiError(f"Unrecognized request URL ({method}: {path}).", status=404)
        route, ids = found
        return json.dumps(shown(route.handler(forms.check(given, route.parameters), *ids)))

    def _control(self, method: str, path: str, given: dict[str, Any]) -> dict[str, Any]:
        store, text = self.store, forms.text(required=True)
        match method, path:
            case "POST", "/simulator/advance":
                seconds = forms.check(given, {"seconds": forms.number(required=True)})["seconds"]
                store.set_state("clock_offset_s", store.state("clock_offset_s") + seconds)
                self._subscriptions.renew_due()
                self._checkout.expire_due()
                return {"now": store.now()}
            case "POST", "/simulator/card":
                checked = forms.check(given, {"customer": text, "pays": forms.Kind("flag", required=True)})
                customer = store.get("customer", checked["customer"])
                customer[HIDDEN]["pays"] = checked["pays"]
                return store.save(customer)
            case "POST", "/simulator/give-up":
                checked = forms.check(given, {"subscription": text})
                return self._subscriptions.give_up(checked["subscription"])
            case "POST", "/simulator/dispute":
                return payments.create_dispute(store, forms.check(given, {"charge": text, "reason": forms.text()}))
            case "POST", "/simulator/dispute/close":
                checked = forms.check(given, {"dispute": text, "status": text})
                return payments.close_dispute(store, {"status": checked["status"]}, checked["dispute"])
            case "GET", "/simulator/meter_events":
                rows = store.connection.execute(
                    "SELECT identifier, meter, customer, at, value FROM meter_events"
                ).fetchall()
                names = ("identifier", "meter", "customer", "timestamp", "value")
                found = [{**dict(zip(names, row, strict=True)), "id": row[0]} for row in rows]
                return listed(path, found, limit=1_000_000)
        raise ApiError(f"Unrecognized request URL ({method}: {path}).", status=404)

    # -- the pages ---------------------------------------------------------------------------------------------------

    def page(self, method: str, path: str, body: str) -> Answer:
        pressed = {name: values[0] for name, values in parse_qs(body).items()} if method == "POST" else {}
        try:
            with self.lock:
                kind, _, object_id = path.strip("/").partition("/")
                show = {"pay": self._pay_page, "portal": self._portal_page, "invoice": self._invoice_page}.get(kind)
                if show is None:
                    raise ApiError("There is no such page.", status=404)
                return show(object_id, pressed)
        except ApiError as error:
            return _html(error.status, pages.error_page(str(error)))

    def _pay_page(self, session_id: str, pressed: dict[str, str]) -> Answer:
        error = ""
        if pressed:
            try:
                with self.store.transaction():
                    self._checkout.pay(session_id, card_works=pressed["action"] == "pay")
            except ApiError as refused:
                error = str(refused)
        session = self.store.get("checkout.session", session_id)
        if session["status"] == "complete":
            return _redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id))
        if session["status"] == "expired":
            raise ApiError("This checkout has expired; begin again.", status=410)
        prices = [(self.store.get("price", price_id), quantity) for price_id, quantity in session[HIDDEN]["lines"]]
        lines = [
            (price["nickname"], quantity, 0 if quantity is None else amount_of(price, quantity))
            for price, quantity in prices
        ]
        return _html(402 if error else 200, pages.pay_page(session, lines, error))

    def _portal_page(self, portal_id: str, pressed: dict[str, str]) -> Answer:
        portal = self.store.get("billing_portal.session", portal_id)
        error = ""
        if pressed:
            try:
                with self.store.transaction():
                    self._press(portal["customer"], pressed["action"], pressed.get("subject", ""))
            except ApiError as refused:
                error = str(refused)
        customer = self.store.get("customer", portal["customer"])
        subscriptions = self.store.all("subscription", customer["id"])
        found = self.store.all("invoice", customer["id"])
        text = pages.portal_page(portal, customer, subscriptions, found, customer[HIDDEN]["pays"], error)
        return _html(402 if error else 200, text)

    def _press(self, customer_id: str, action: str, subject: str) -> None:
        if action == "card":
            customer = self.store.get("customer", customer_id)
            customer[HIDDEN]["pays"] = not customer[HIDDEN]["pays"]
            self.store.save(customer)
            return
        kind = "invoice" if action == "pay" else "subscription"
        if self.store.get(kind, subject)["customer"] != customer_id:
            raise ApiError(f"No such {kind}.", status=404)
        if action == "pay":
            self._subscriptions.pay({}, subject)
        elif action in ("cancel", "resume"):
            self._subscriptions.update({"cancel_at_period_end": action == "cancel"}, subject)

    def _invoice_page(self, invoice_id: str, pressed: dict[str, str]) -> Answer:
        invoice_id, _, form = invoice_id.partition("/")
        invoice = self.store.get("invoice", invoice_id)
        if form == "pdf":
            name = f"invoice-{invoice['number'] or 'draft'}-simulated.pdf"
            headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
            return 200, "application/pdf", invoice_pdf.render(invoice), headers
        return _html(200, pages.invoice_page(invoice))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator: Simulator
    timeout = 60

    def do_GET(self) -> None:
        self._respond("GET")

    def do_POST(self) -> None:
        self._respond("POST")

    def do_DELETE(self) -> None:
        self._respond("DELETE")

    def _respond(self, method: str) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _BODY_BYTES_MAX:
            self.send_error(413)
            return
        body = self.rfile.read(int(length)).decode(errors="replace")
        if self.path.startswith(("/v1/", "/simulator/")):
            authorization, key = self.headers.get("Authorization", ""), self.headers.get("Idempotency-Key")
            answer = self.simulator.api(method, self.path, body, authorization, key)
        else:
            answer = self.simulator.page(method, urlsplit(self.path).path, body)
        status, kind, content, headers = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent: the control plane logs what it asks for."""


def serve(listener: ThreadingHTTPServer, store: Store, *, base_url: str, api_key: str, url: str, secret: str) -> None:
    """Until the process ends. ``url``: where webhooks go, signed with ``secret``."""
    simulator = Simulator(store, base_url, api_key)
    listener.RequestHandlerClass = type("Handler", (_Handler,), {"simulator": simulator})
    webhooks.Delivery(store, simulator.lock, url, secret).start()
    threading.Thread(target=simulator.run_clock, name="clock", daemon=True).start()
    listener.serve_forever()


def listen(host: str, port: int) -> ThreadingHTTPServer:
    ThreadingHTTPServer.daemon_threads = True
    return ThreadingHTTPServer((host, port), _Handler)


def _html(status: int, text: str) -> Answer:
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    }
    return status, "text/html; charset=utf-8", text.encode(), headers


def _redirect(url: str) -> Answer:
    return 303, "text/plain", b"", {"Location": url, "Cache-Control": "no-store"}
