"""The status of a MergeLane. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidegate.api import reasons
from tidegate.api.views import LaneView, MergeJobView
from tidegate.lane.decide.model import Plan
from tidegate.lane.jobs import FAILED, GATING, LANDING, MERGED, Moment, Status
from tidegate.lane.state import LaneState
from tidegate.runtime.conditions import drop_condition, set_condition

STARVED_AFTER = 5  # candidates formed anew in a row because others moved the branch


@dataclass
class LaneReport:
    """What a round found out about its lane."""

    blocked: tuple[str, str] | None = None  # it can't work: reason, message
    frozen: tuple[str, str] | None = None  # nothing may land: reason, message
    plan: Plan | None = None
    notes: str = ""  # why what landed has no git notes


def lane_status(lane: LaneView, jobs: Iterable[MergeJobView], state: LaneState | None, report: LaneReport, holder: str,
                moment: Moment) -> Status:  # fmt: skip
    """The whole status that the lane should have."""
    states = [job.status.get("state") or "Queued" for job in jobs]
    status: dict[str, Any] = {
        "observedGeneration": lane.meta.generation,
        "conditions": _conditions(lane, state, report, moment),
        "depth": sum(one in ("Queued", GATING, LANDING) for one in states),
        "counts": {
            "queued": states.count("Queued"),
            "gating": states.count(GATING) + states.count(LANDING),
            "merged": states.count(MERGED),
            "failed": states.count(FAILED),
        },
    }
    if state is not None:
        status["fruitless"] = state.fruitless
    if state is not None and state.head:
        status |= {"head": state.head, "reforms": state.reforms, "laneId": state.refs.lane_id}
        if state.head != lane.status.get("head"):
            status["headTime"] = moment.now
    if state is not None:
        status["signingKey"] = state.signer.public if state.signer is not None else None
    if state is not None and state.ledger is not None:
        status |= {"ledger": state.ledger.value, "holder": holder[:253]}
        landings = [one for _, entry in state.ledger.chain[-50:] for one in entry.landings]
        if landings:
            status["landedCommit"] = landings[-1].candidate
            if landings[-1].candidate != lane.status.get("landedCommit"):
                status["lastLandingTime"] = moment.now
    if report.plan is not None:
        rung = report.plan.ladder[0] if report.plan.ladder else None
        status["candidate"] = rung.link.commit if rung else None
        status["candidateJob"] = rung.job.name if rung else None
        status["window"] = min(state.window, int(lane.spec.get("window") or 1)) if state is not None else None
    return status


def _conditions(lane: LaneView, state: LaneState | None, report: LaneReport, moment: Moment) -> list[Status]:
    found: list[Status] = list(lane.status.get("conditions") or ())

    def put(conditions: list[Status], type_: str, status: str, reason: str, message: str) -> list[Status]:
        return set_condition(
            conditions, type_, status, reason, message, now=moment.now, generation=lane.meta.generation
        )

    if report.blocked is not None:
        found = put(found, reasons.READY, "False", *report.blocked)
        return put(found, reasons.STALLED, "True", *report.blocked)
    found = drop_condition(found, reasons.STALLED)
    plan = report.plan
    if report.frozen is not None:
        kept = next((one for one in found if one["type"] == reasons.FROZEN and one["status"] == "True"), None)
        if kept is None or kept["reason"] != report.frozen[0] or report.frozen[0] == reasons.BY_SPEC:
            found = put(found, reasons.FROZEN, "True", *report.frozen)
    else:
        found = put(found, reasons.FROZEN, "False", reasons.AS_EXPECTED, "")
    if plan is not None and plan.red:
        names = ", ".join(plan.red)
        reason = reasons.GATE_NEVER_PASSED if plan.never_passed else reasons.BASE_RED
        message = f"the head fails {names}; jobs are tried one at a time until one mends it"
        if plan.never_passed:
            message = f"the head has never passed {', '.join(plan.never_passed)}: look at the gate itself first"
        found = put(found, reasons.BASE_RED, "True", reason, message)
    else:
        found = drop_condition(found, reasons.BASE_RED)
    if report.notes:
        found = put(found, reasons.NOTES_WRITTEN, "False", reasons.NOTES_NOT_WRITTEN, report.notes)
    else:
        found = drop_condition(found, reasons.NOTES_WRITTEN)
    if state is not None and state.reforms >= STARVED_AFTER:
        message = f"others moved the branch {state.reforms} times in a row before a candidate could land"
        found = put(found, reasons.STARVED, "True", reasons.STARVED, message)
    else:
        found = drop_condition(found, reasons.STARVED)
    return put(found, reasons.READY, "True", reasons.AS_EXPECTED, "")
