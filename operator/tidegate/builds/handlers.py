"""What the builds room watches."""

from __future__ import annotations

import kopf

from tidegate.runtime.context import Context
from tidegate.runtime.watch import watch

KINDS = ("BuildRequest", "AgentTask", "MergeJob", "MergeLane", "GateRun", "GateProfile", "Pod")


def register(registry: kopf.OperatorRegistry, ctx: Context) -> None:
    """Watch the kinds that a build's decisions depend on."""
    for kind in KINDS:
        watch(registry, ctx, kind)
