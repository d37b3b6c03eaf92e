"""How the nodes are, as they say themselves in Redis (gateway/contract/node.py).

Called by ``service``. What always holds: a node's document is hostile input (whoever can write to Redis wrote it), so
one that is not valid is left out and said in the log; how old it is, the time to live of its key tells.
"""

from collections import defaultdict
from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from control_plane.models import now
from control_plane.operators.schemas import NodeOut
from gateway.contract.node import NODE_GONE_S, NODE_KEPT_S, NODES_KEY, NodeState, node_key

log = structlog.get_logger(__name__)


class NodesUnknown(Exception):  # noqa: N818 - Redis is away, or there is none: nobody knows how nodes are
    pass


async def list_nodes(redis: Redis | None, revision: int) -> list[NodeOut]:
    """By name; those that are gone included, for an hour. ``revision``: of the newest table. Raises NodesUnknown."""
    if redis is None:
        raise NodesUnknown("REDIS_URL is not set: nodes cannot be heard")
    client: Any = redis
    try:
        names = sorted(name.decode(errors="replace") for name in await client.smembers(NODES_KEY))
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.get(node_key(name))
            pipeline.pttl(node_key(name))
        answers = await pipeline.execute() if names else []
        found, dropped = [], []
        for name, document, left_ms in zip(names, answers[::2], answers[1::2], strict=True):
            if document is None:
                dropped.append(name)
            elif (node := _read(name, document, left_ms, revision)) is not None:
                found.append(node)
        if dropped:
            await client.srem(NODES_KEY, *dropped)
    except (RedisError, OSError) as error:
        raise NodesUnknown(f"Redis does not answer ({type(error).__name__}): nodes cannot be heard") from error
    return found


def calls_by_tenant(nodes: list[NodeOut]) -> dict[str, float]:
    """Tenant's name → calls per second now, over the nodes that live."""
    sums: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        if not node.gone:
            for tenant, calls_per_s in node.state.tenants.items():
                sums[tenant] += calls_per_s
    return dict(sums)


def _read(name: str, document: bytes, left_ms: int, revision: int) -> NodeOut | None:
    try:
        state = NodeState.model_validate_json(document)
    except ValidationError as error:
        log.error("node-unreadable", node=name[:100], message=str(error)[:500])
        return None
    age = timedelta(seconds=NODE_KEPT_S) - timedelta(milliseconds=max(left_ms, 0))
    gone = age > timedelta(seconds=NODE_GONE_S)
    behind = not gone and 0 <= state.revision < revision
    return NodeOut(node=name, gone=gone, seen_at=now() - age, behind=behind, state=state)
