"""What the tasks room watches."""

from __future__ import annotations

import kopf

from tidegate.runtime.context import Context
from tidegate.runtime.watch import watch

KINDS = ("AgentTask", "BuildRequest", "AgentClass", "MergeJob", "MergeLane", "GateRun", "GateProfile", "Pod")


def register(registry: kopf.OperatorRegistry, ctx: Context) -> None:
    """Watch the kinds that a task's decisions depend on."""
    for kind in KINDS:
        watch(registry, ctx, kind)
