"""What the lane's room watches."""

from __future__ import annotations

import kopf

from tidegate.runtime.context import Context
from tidegate.runtime.watch import watch

KINDS = ("MergeJob", "MergeLane", "GateRun", "GateProfile", "BuildRequest", "AgentTask", "AgentClass", "Pod")


def register(registry: kopf.OperatorRegistry, ctx: Context) -> None:
    """Watch the kinds that a lane's decisions depend on."""
    for kind in KINDS:
        watch(registry, ctx, kind)
