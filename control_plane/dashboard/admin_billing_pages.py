"""/admin/webhooks and /admin/reconciliation: what Stripe said, and whether our books agree with its."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from control_plane.billing import repository as billing
from control_plane.context import ContextDependency
from control_plane.dashboard.operator_visitor import OperatorLook, OperatorPost, render
from control_plane.dashboard.visitor import go
from control_plane.operators import repository, service
from control_plane.operators.endpoints import EventState
from control_plane.operators.schemas import ReconciliationOut, WebhookOut
from control_plane.pagination import PageRequest
from control_plane.problems import Problem

router = APIRouter(prefix="/admin")
_EVENTS_SHOWN_MAX = 100
_RECONCILIATIONS_SHOWN_MAX = 10


@router.get("/webhooks")
async def webhooks_page(
    request: Request, context: ContextDependency, looking: OperatorLook, state: EventState = ""
) -> Response:
    async with context.reading() as session:
        found = await billing.recent_events(session, _EVENTS_SHOWN_MAX, state=state)
        counts = await billing.event_counts(session)
        meter_events = await billing.meter_event_counts(session)
    return render(
        request, context, looking, "webhooks.html", section="admin-webhooks", counts=counts, state=state,
        events=[WebhookOut.of(each) for each in found], meter_events=meter_events,
        configured=context.stripe is not None,
    )  # fmt: skip


@router.post("/webhooks/replay")
async def replay(context: ContextDependency, posting: OperatorPost) -> Response:
    event_id = posting.posted.text("event")
    count = await service.replay_webhooks(context, posting.operator.actor, [event_id] if event_id else None)
    said = f"{count} webhooks are handled again." if count != 1 else "The webhook is handled again."
    return await go(context, posting.visitor, "/admin/webhooks", said if count else "There was none that had failed.")


@router.get("/reconciliation")
async def reconciliation_page(request: Request, context: ContextDependency, looking: OperatorLook) -> Response:
    async with context.reading() as session:
        page = PageRequest(limit=_RECONCILIATIONS_SHOWN_MAX, after=None)
        found = await billing.list_reconciliations(session, page)
        shown = [ReconciliationOut.of(each) for each in found.items]
        ids = {each.tenant_id for row in shown for each in row.differences}
        names = await repository.names_of(session, ids)
    return render(
        request, context, looking, "reconciliation.html", section="admin-reconciliation", rows=shown, names=names,
        configured=context.stripe is not None,
    )  # fmt: skip


@router.post("/reconciliation")
async def reconcile(context: ContextDependency, posting: OperatorPost) -> Response:
    try:
        await service.ask_reconciliation(context, posting.operator.actor)
    except Problem as problem:
        return await go(context, posting.visitor, "/admin/reconciliation", problem.detail, "bad")
    return await go(context, posting.visitor, "/admin/reconciliation", "The comparison begins.")
