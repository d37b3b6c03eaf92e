"""/admin: the system at a glance, its nodes, its settings, what operators did, the runbook."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from control_plane.audit.actions import ACTIONS, OPERATOR_ACTIONS
from control_plane.context import ContextDependency
from control_plane.dashboard import runbook
from control_plane.dashboard.operator_visitor import OperatorLook, render
from control_plane.operators import overview, repository, service, settings_shown
from control_plane.operators.endpoints import RedisDependency
from control_plane.operators.nodes import NodesUnknown
from control_plane.operators.schemas import NodeOut, OperatorEntryOut, OperatorOut
from control_plane.pagination import PageDependency
from control_plane.problems import Problem

router = APIRouter(prefix="/admin")
NodeName = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,80}$")]
Filter = Annotated[str, Query(max_length=254)]


@router.get("")
async def overview_page(
    request: Request, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    found = await overview.overview(context, redis)
    nodes, _ = await _nodes(context, redis)
    return render(
        request, context, looking, "overview.html", section="admin-overview", overview=found, nodes=nodes,
        worst=next((tone for tone in ("bad", "warn") if any(one.tone == tone for one in found.checks)), "good"),
    )  # fmt: skip


@router.get("/nodes")
async def nodes_page(
    request: Request, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    nodes, silent = await _nodes(context, redis)
    return render(request, context, looking, "nodes.html", section="admin-nodes", nodes=nodes, silent=silent)


@router.get("/nodes/{node}")
async def node_page(
    request: Request, node: NodeName, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    nodes, silent = await _nodes(context, redis)
    found = next((each for each in nodes if each.node == node), None)
    if found is None:
        raise Problem("not-found", silent or f"There is no node {node!r}, or it has been gone for over an hour.")
    return render(request, context, looking, "node.html", section="admin-nodes", node=found)


@router.get("/usage")
async def usage_page(
    request: Request, context: ContextDependency, redis: RedisDependency, looking: OperatorLook
) -> Response:
    lag = await service.usage_lag(context, redis)
    return render(request, context, looking, "usage.html", section="admin-usage", lag=lag)


@router.get("/settings")
async def settings_page(request: Request, context: ContextDependency, looking: OperatorLook) -> Response:
    shown = settings_shown.settings_in_force(context.settings)
    return render(request, context, looking, "settings.html", section="admin-settings", shown=shown)


@router.get("/audit")
async def audit_page(
    request: Request,
    context: ContextDependency,
    looking: OperatorLook,
    page: PageDependency,
    action: Filter = "",
    actor: Filter = "",
) -> Response:
    async with context.reading() as session:
        found = await repository.list_entries(session, page, action=action.strip(), actor=actor.strip())
        operators = [OperatorOut.of(each) for each in await repository.list_operators(session)]
    known = ACTIONS | OPERATOR_ACTIONS
    return render(
        request, context, looking, "audit.html", section="admin-audit", operators=operators, known=known,
        entries=[OperatorEntryOut.of(entry) for entry in found.items], next_cursor=found.next_cursor,
        values={"action": action, "actor": actor}, kinds=sorted({name.partition(".")[0] for name in known}),
    )  # fmt: skip


@router.get("/runbook")
async def runbook_page(request: Request, context: ContextDependency, looking: OperatorLook) -> Response:
    chapters, content = runbook.rendered()
    return render(
        request, context, looking, "runbook.html", section="admin-runbook", chapters=chapters, content=content
    )


async def _nodes(context: ContextDependency, redis: RedisDependency) -> tuple[list[NodeOut], str]:
    """→ the nodes, and why they cannot be heard"""
    try:
        return await service.nodes(context, redis), ""
    except NodesUnknown as error:
        return [], str(error)
