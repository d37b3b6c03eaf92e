"""What each tenant and version uses of the network: connections at once, new ones per second, bytes per minute.

Called by ``server`` (accepting) and ``relay`` (bytes). What always holds: counters only grow; a bucket that is empty
slows its owner down and nobody else.
"""

from collections import Counter
from dataclasses import dataclass, field

_MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Fills at ``rate_per_s`` up to ``most``; spending more than it holds is a debt to be waited for."""

    rate_per_s: float
    most: float
    level: float
    at_s: float

    @classmethod
    def full(cls, rate_per_s: float, most: float, now_s: float) -> "Bucket":
        return cls(rate_per_s, most, most, now_s)

    @classmethod
    def of_minute(cls, amount: float, now_s: float) -> "Bucket":
        return cls.full(amount / _MINUTE_S, amount, now_s)

    def spend(self, amount: float, now_s: float) -> float:
        """Seconds until the debt is paid; 0: none."""
        self.level = min(self.most, self.level + (now_s - self.at_s) * self.rate_per_s) - amount
        self.at_s = now_s
        return self.debt_s(now_s)

    def debt_s(self, now_s: float) -> float:
        """Seconds until it is above nothing; 0: it is."""
        level = self.level + (now_s - self.at_s) * self.rate_per_s
        return 0.0 if level >= 0 else -level / self.rate_per_s

    def is_full(self, now_s: float) -> bool:
        return self.level + (now_s - self.at_s) * self.rate_per_s >= self.most


@dataclass(slots=True)
class Tenant:
    name: str
    accepts: Bucket
    connections: int = 0
    """Open now, as the workers see it."""
    workers: int = 0
    connections_total: int = 0
    bytes_sent_total: int = 0
    """To the outside."""
    bytes_received_total: int = 0
    refused_total: Counter[str] = field(default_factory=Counter)
    """By rule."""

    def document(self) -> dict[str, object]:
        return {
            "tenant": self.name,
            "connections_open": self.connections,
            "connections_total": self.connections_total,
            "bytes_sent_total": self.bytes_sent_total,
            "bytes_received_total": self.bytes_received_total,
            "refused_total": dict(self.refused_total),
        }


@dataclass(slots=True)
class Version:
    """All workers of one version on this node."""

    tenant: Tenant
    id: str
    function: str
    connections_max: int
    bytes: Bucket
    connections: int = 0
    workers: int = 0

    def sent(self, count: int, now_s: float) -> float:
        """Seconds to wait before they are passed on."""
        self.tenant.bytes_sent_total += count
        return self.bytes.spend(count, now_s)

    def received(self, count: int, now_s: float) -> float:
        self.tenant.bytes_received_total += count
        return self.bytes.spend(count, now_s)
