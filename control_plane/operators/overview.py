"""How the whole system is, one line per thing, and what a person must do about those that are not well.

Called by the endpoints and the first page under /admin. Each function below looks at one part and gives its checks;
``bad`` means that somebody must act, and then the check names the command and the chapter of docs/RUNBOOK.md.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository as billing
from control_plane.billing import service as billing_service
from control_plane.billing.schemas import BillingHealth
from control_plane.context import Context
from control_plane.mail import repository as mail
from control_plane.models import Reconciliation, now
from control_plane.operators import repository, service
from control_plane.operators.nodes import NodesUnknown
from control_plane.operators.schemas import Check, NodeOut, Overview, Tone
from control_plane.outbox import repository as outbox

_LATE: Final = timedelta(seconds=30)
_UNCONFIRMED_S: Final = 30.0
"""A change that Redis does not have by then, a table that a node does not serve."""
_WEBHOOK_LATE: Final = timedelta(minutes=5)
_MAIL_LATE: Final = timedelta(minutes=10)
_RECONCILED_LATE: Final = 2
"""Intervals without a comparison."""
_DISK_LOW, _DISK_BAD = 0.15, 0.05
_UNBOOKED_BYTES_MANY: Final = 16 * 2**20
"""Of all journals: a hundred thousand calls and more."""
_QUEUE_LONG: Final = 50
"""Calls that wait on one node."""


async def overview(context: Context, redis: Redis | None) -> Overview:
    silent = ""
    nodes: list[NodeOut] = []
    try:
        nodes = await service.nodes(context, redis)
    except NodesUnknown as error:
        silent = str(error)
    health = await billing_service.health(context)
    at = now()
    async with context.reading() as session:
        revision = await outbox.current_revision(session)
        changed_at = await outbox.newest_change_at(session)
        checks = [*_nodes(nodes, silent, changed_at, at), await _outbox(session, redis, at)]
        checks.append(await _usage(session, nodes))
        checks += await _money(session, context, health, at)
        checks.append(await _mail(session, context, at))
        tenants = await repository.count_by_status(session)
    alive = [node.state for node in nodes if not node.gone]
    workers: Counter[str] = Counter()
    for state in alive:
        for cpu in state.cpus:
            workers.update(cpu.workers)
    return Overview(
        at=at,
        nodes_up=len(alive),
        nodes_gone=len(nodes) - len(alive),
        tenants=tenants,
        calls_per_s=round(sum(state.calls_per_s for state in alive), 2),
        refused_per_s=round(sum(state.refused_per_s for state in alive), 2),
        failed_per_s=round(sum(state.failed_per_s for state in alive), 2),
        queue_length=sum(cpu.queue_length for state in alive for cpu in state.cpus),
        workers={str(name): count for name, count in workers.items()},
        revision=revision,
        checks=checks,
        billing=health,
    )


# -- The data plane ---------------------------------------------------------------------------------------------------


def _nodes(nodes: list[NodeOut], silent: str, changed_at: datetime | None, at: datetime) -> list[Check]:
    if silent:
        command = "tailcut-server status"
        return [Check(id="nodes", title="Nodes", tone="bad", value="not heard", detail=silent, command=command,
                      runbook="when-a-process-dies")]  # fmt: skip
    alive = [node for node in nodes if not node.gone]
    gone = [node for node in nodes if node.gone]
    lost = ", ".join(f"{node.state.host} ({node.node})" for node in gone)
    tone: Tone = "bad" if not alive else "warn" if gone else "good"
    return [
        Check(
            id="nodes",
            title="Nodes",
            tone=tone,
            value=f"{len(alive)} up" + (f", {len(gone)} gone" if gone else ""),
            detail=f"Not heard of any more: {lost}." if gone else "" if alive else "No node has ever said a word.",
            command="" if tone == "good" else "tailcut-server status",
            runbook="" if tone == "good" else "when-a-process-dies",
        ),
        *(check for node in alive for check in _node(node, changed_at, at)),
    ]


def _node(node: NodeOut, changed_at: datetime | None, at: datetime) -> list[Check]:
    """Only what is not well: a node that has nothing to say has no line."""
    state = node.state
    name = f"Node {state.host}"
    found = []

    def say(kind: str, tone: Tone, value: str, detail: str, command: str = "", runbook: str = "is-it-well") -> None:
        found.append(
            Check(id=f"{node.node}-{kind}", title=name, tone=tone, value=value, detail=detail, command=command,
                  runbook=runbook)
        )  # fmt: skip

    free = state.disk_free_bytes / state.disk_bytes if state.disk_bytes else 1.0
    if state.journal is not None and state.journal.full:
        detail = "No room for the journal of usage: calls are refused with 503 until there is."
        say("journal", "bad", "journal full", detail, "df -h", "when-a-process-dies")
    elif free < _DISK_LOW:
        tone: Tone = "bad" if free < _DISK_BAD else "warn"
        say("disk", tone, f"{free:.0%} of the disk free", "Without room deploys fail, then calls are refused.",
            "df -h", "when-a-process-dies")  # fmt: skip
    if node.behind and changed_at is not None and at - changed_at > _LATE:
        say("table", "bad", "serves an old table", f"Revision {state.revision}: keys and tiers changed since do not "
            "hold there.", "tailcut-server status", "is-it-well")  # fmt: skip
    if state.table_age_s is not None and state.table_age_s > _UNCONFIRMED_S:
        over = 0 < state.table_max_age_s <= state.table_age_s
        detail = "Calls are refused there (503 table-expired)." if over else "Keys revoked meanwhile may work there."
        say("age", "bad" if over else "warn", f"the table was not confirmed for {state.table_age_s:.0f} s", detail)
    if state.revisions_refused:
        detail = "The data plane refused a table and serves the one before: a defect of ours, please report it."
        say("refused", "bad", f"{state.revisions_refused} tables refused", detail)
    if state.jail != "on":
        detail = f"TAILCUT_JAIL={state.jail}: run only code there that you trust."
        say("jail", "bad", "workers are not fully jailed", detail, "tailcut-server doctor", "start-stop-look")
    elif state.doctor is not None and not (state.doctor.whole and state.doctor.bounded):
        detail = "A part of the jail, or the bound on memory, is missing; its page names it."
        say("doctor", "bad", "the doctor objects", detail, "tailcut-server doctor", "start-stop-look")
    waiting = sum(cpu.queue_length for cpu in state.cpus)
    if waiting >= _QUEUE_LONG:
        say("queue", "warn", f"{waiting} calls wait", "More CPUs, or another node, would help.")
    return found


async def _outbox(session: AsyncSession, redis: Redis | None, at: datetime) -> Check:
    pending, oldest = await outbox.pending_since(session)
    if redis is None:
        return Check(id="outbox", title="Changes to nodes", tone="bad", value="no Redis",
                     detail="REDIS_URL is not set: no node hears of changes.", runbook="start-stop-look")  # fmt: skip
    if oldest is not None and at - oldest > _LATE:
        return Check(
            id="outbox", title="Changes to nodes", tone="bad", value=f"{pending} wait",
            detail="Deploys, revoked keys and suspensions do not reach the nodes: Redis is away.",
            command="tailcut-server status", runbook="when-a-process-dies",
        )  # fmt: skip
    return Check(id="outbox", title="Changes to nodes", tone="good", value="all sent")


async def _usage(session: AsyncSession, nodes: list[NodeOut]) -> Check:
    count, letters = await repository.dead_letters(session, 1)
    if count:
        return Check(
            id="usage", title="Usage", tone="bad", value=f"{count} records not booked",
            detail=f"They are kept, and billed to nobody: {letters[0].reason}.", runbook="money",
        )  # fmt: skip
    journals = [node.state.journal for node in nodes if not node.gone and node.state.journal is not None]
    unbooked_bytes = sum(journal.unbooked_bytes for journal in journals)
    if unbooked_bytes > _UNBOOKED_BYTES_MANY:
        return Check(
            id="usage", title="Usage", tone="warn", value=f"{unbooked_bytes / 2**20:.0f} MiB not booked yet",
            detail="Nothing is lost, but quotas and bills lag behind: is the control plane slow, or Redis away?",
            runbook="when-a-process-dies",
        )  # fmt: skip
    return Check(id="usage", title="Usage", tone="good", value="booked as it comes")


# -- Money and mail ---------------------------------------------------------------------------------------------------


async def _money(session: AsyncSession, context: Context, health: BillingHealth, at: datetime) -> list[Check]:
    if not health.configured:
        return [Check(id="billing", title="Billing", tone="idle", value="sells nothing",
                      detail="STRIPE_API_KEY is not set.", runbook="money")]  # fmt: skip
    checks = []
    if health.simulated:
        checks.append(Check(id="billing", title="Billing", tone="idle", value="simulated",
                            detail="No money moves.", runbook="money"))  # fmt: skip
    checks.append(await _webhooks(session, health, at))
    stuck = sum(health.meter_events.get(state, 0) for state in ("refused", "ambiguous"))
    waiting = health.meter_events.get("new", 0) + health.meter_events.get("sending", 0)
    checks.append(
        Check(
            id="meter-events",
            title="Usage to Stripe",
            tone="bad" if stuck else "good",
            value=f"{stuck} refused or unclear" if stuck else f"{waiting} to be sent" if waiting else "all told",
            detail="Stripe did not take them: compare, then add what is missing to the invoice." if stuck else "",
            command="tailcut-server stripe-reconcile" if stuck else "",
            runbook="money" if stuck else "",
        )
    )
    checks.append(_reconciled(context, await billing.last_reconciliation(session), at))
    checks += [
        Check(id=f"note-{index}", title="A subscription to look at", tone="warn", value=note.partition(":")[0],
              detail=note.partition(":")[2].strip(), runbook="money")
        for index, note in enumerate(health.notes[:10])
    ]  # fmt: skip
    return checks


async def _webhooks(session: AsyncSession, health: BillingHealth, at: datetime) -> Check:
    failed, stored = health.events.get("failed", 0), health.events.get("stored", 0)
    oldest = await billing.oldest_stored_event(session)
    if failed:
        return Check(
            id="webhooks", title="Webhooks", tone="bad", value=f"{failed} failed",
            detail="What they told has not been done; handle them again once the cause is gone.",
            command="tailcut-server stripe-replay", runbook="money",
        )  # fmt: skip
    if oldest is not None and at - oldest > _WEBHOOK_LATE:
        return Check(id="webhooks", title="Webhooks", tone="warn", value=f"{stored} wait",
                     detail="They are tried again with growing pauses.", runbook="money")  # fmt: skip
    handled = health.events.get("handled", 0) + health.events.get("ignored", 0)
    return Check(id="webhooks", title="Webhooks", tone="good", value=f"{handled} handled")


def _reconciled(context: Context, last: Reconciliation | None, at: datetime) -> Check:
    title, command = "Comparison with Stripe", "tailcut-server stripe-reconcile"
    if last is None:
        return Check(id="reconciliation", title=title, tone="idle", value="not yet")
    if last.ended_at is None:
        return Check(id="reconciliation", title=title, tone="idle", value="running" if last.started_at else "waiting")
    if last.error:
        return Check(id="reconciliation", title=title, tone="bad", value="failed", detail=last.error, command=command,
                     runbook="money")  # fmt: skip
    if last.differences_count:
        return Check(
            id="reconciliation", title=title, tone="bad", value=f"{last.differences_count} differences",
            detail="The page names each; what Stripe says can be copied.", command=f"{command} --repair",
            runbook="money",
        )  # fmt: skip
    if at - last.ended_at > context.settings.reconcile_interval * _RECONCILED_LATE:
        return Check(id="reconciliation", title=title, tone="warn", value="long ago", command=command, runbook="money")
    return Check(id="reconciliation", title=title, tone="good", value="no difference")


async def _mail(session: AsyncSession, context: Context, at: datetime) -> Check:
    count, oldest, attempts = await mail.waiting_mails(session)
    if oldest is not None and (at - oldest > _MAIL_LATE or attempts > 1):
        detail = f"Tried up to {attempts} times; the log says why (mail-failed)."
        return Check(id="mail", title="Mail", tone="bad", value=f"{count} not sent", detail=detail,
                     command="grep mail-failed var/log/control-plane.log", runbook="people-and-tenants")  # fmt: skip
    if not context.settings.smtp_url:
        return Check(id="mail", title="Mail", tone="idle", value="printed to the log",
                     detail="TAILCUT_SMTP_URL is not set.", runbook="people-and-tenants")  # fmt: skip
    return Check(id="mail", title="Mail", tone="good", value=f"{count} on the way" if count else "all sent")
