"""What a function reads when the egress does not do what it asks: problem+json (RFC 9457) that names the rule.

Called by ``proxy``. Most clients show only the status line of a proxy's refusal, so the rule stands in its reason
phrase, too, and in Proxy-Status (RFC 9209). What always holds: nothing that the tenant has not sent itself is told, the
address that a name led to least of all.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    status: int
    error: str
    """Of RFC 9209."""
    detail: str


_PROHIBITED = "destination_ip_prohibited"
_REMEDY = "An operator can allow single networks (TAILCUT_EGRESS_ALLOW)."
RULES: dict[str, Rule] = {
    "loopback": Rule(403, _PROHIBITED, "Loopback addresses are no place for functions."),
    "cloud-metadata": Rule(403, _PROHIBITED, "The cloud's metadata service is not for functions."),
    "private-address": Rule(403, _PROHIBITED, f"Private addresses are not reached from functions. {_REMEDY}"),
    "link-local": Rule(403, _PROHIBITED, "Link-local addresses are not reached from functions."),
    "multicast": Rule(403, _PROHIBITED, "Multicast and broadcast addresses are not reached from functions."),
    "embedded-address": Rule(403, _PROHIBITED, "IPv6 addresses that embed an IPv4 address are refused: use that one."),
    "reserved-address": Rule(403, _PROHIBITED, "The address is reserved (IANA's registry); nobody answers there."),
    "own-address": Rule(403, _PROHIBITED, f"The address is one of this server's own. {_REMEDY}"),
    "denied-by-operator": Rule(403, _PROHIBITED, "An operator has denied this network (TAILCUT_EGRESS_DENY)."),
    "port": Rule(403, "http_request_denied", "The port is not allowed."),
    "connections": Rule(429, "connection_limit_reached", "Too many connections are open."),
    "name-not-found": Rule(502, "dns_error", "The name has no address."),
    "connect-failed": Rule(502, "connection_refused", "Nobody answers there, or the connection was refused."),
    "connect-timeout": Rule(504, "connection_timeout", "Nobody answered in time."),
    "bad-request": Rule(400, "http_request_error", "The request is not one that a proxy understands."),
    "head-too-large": Rule(431, "http_request_error", "The request's head is too large."),
    "head-timeout": Rule(408, "http_request_error", "The request's head did not come in time."),
    "bad-answer": Rule(502, "http_protocol_error", "What answered does not speak HTTP/1."),
}


class Refused(Exception):  # noqa: N818 (it is an answer)
    """Not done, by that rule of ``RULES``."""

    def __init__(self, rule: str, detail: str = "", host: str = "", port: int = 0) -> None:
        super().__init__(rule)
        self.rule = rule
        self.detail = detail
        self.host = host
        self.port = port


def answer(refused: Refused, base_url: str) -> bytes:
    """The whole response."""
    rule = RULES[refused.rule]
    where = f" {refused.host}:{refused.port}" if refused.host else ""
    document = {
        "type": f"{base_url}egress-refused",
        "title": "The connection was not made",
        "status": rule.status,
        "detail": f"{refused.rule}:{where} {rule.detail} {refused.detail}".replace("  ", " ").strip(),
        "component": "egress",
        "rule": refused.rule,
    }
    if refused.host:
        document |= {"host": refused.host, "port": refused.port}
    body = json.dumps(document).encode()
    return (
        f"HTTP/1.1 {rule.status} Egress refused ({refused.rule})\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f'Proxy-Status: tailcut-egress; error={rule.error}; details="{refused.rule}"\r\nConnection: close\r\n\r\n'
    ).encode("ascii") + body
