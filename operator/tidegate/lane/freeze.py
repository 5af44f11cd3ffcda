"""Why nothing may land in a lane, and what lifts it."""

from __future__ import annotations

from tidegate.api import reasons
from tidegate.api.views import LaneView, condition
from tidegate.clients.git import GitThreads
from tidegate.lane.landing import take
from tidegate.lane.state import LaneState
from tidegate.runtime.context import Context

DECLINED_SECONDS = 600.0  # until a push that the remote declined is tried again
FRUITLESS_LIMIT = 50  # candidates without a landing or an ending
_TOGGLE = "set spec.frozen to true and then to false"


async def freeze(ctx: Context, threads: GitThreads, lane: LaneView, state: LaneState) -> tuple[str, str] | None:
    """Reason and message while nothing may land, else None. A person's change of the spec lifts what isn't in it."""
    found = condition(lane.status, reasons.FROZEN) or {}
    was_frozen = found.get("status") == "True"
    touched = was_frozen and lane.meta.generation > int(found.get("observedGeneration") or 0)
    if lane.spec.get("frozen"):
        return reasons.BY_SPEC, "spec.frozen is true: nothing lands until it is false"
    if state.rewound:
        if not touched:
            baseline = state.ledger.baseline[:12] if state.ledger else ""
            words = f"the branch no longer contains {baseline}, which landed last: put it back, or {_TOGGLE}"
            return reasons.TARGET_REWOUND, f"{words} to build on the branch as it is"
        holder = ctx.holder.replace(" ", "_")
        ctx.writer.check()
        state.ledger = await threads.call(take, state.mirror, state.refs, holder, state.head)
        await threads.call(state.refresh)
    if state.declined is not None:
        text, generation, moment = state.declined
        if lane.meta.generation == generation and ctx.monotonic() - moment < DECLINED_SECONDS:
            return reasons.PUSH_DECLINED, f"the remote declines the push, tried again later: {text}"
        state.declined = None
    if state.fruitless >= FRUITLESS_LIMIT:
        if not touched:
            words = f"{state.fruitless} candidates without a landing: look at the gates"
            return reasons.RUNAWAY, f"{words}, then {_TOGGLE}"
        state.bore_fruit()
    return None
