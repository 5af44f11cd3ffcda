"""Which evidence no plan will ask for again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tidegate.api.views import GateRunView

KEPT_RUNS = 200  # what landed can be looked up for a while
KEPT_REVIEWS = 200  # of changes that are not in the queue now: they may be queued again


def outdated(
    runs: Iterable[GateRunView], commits: Collection[str], trees: Collection[str], patches: Collection[str | None]
) -> list[GateRunView]:
    """Runs on none of these commits, trees and changes, but for the newest."""
    gated: list[GateRunView] = []
    reviews: list[GateRunView] = []
    for run in sorted(runs, key=lambda run: (run.meta.created, run.meta.name)):
        if change := run.spec.get("change"):
            if run.status.get("verdict") and change["patchId"] not in patches:
                reviews.append(run)
        elif run.spec["commit"] not in commits and run.spec.get("tree") not in trees:
            gated.append(run)
    return [*gated[: max(len(gated) - KEPT_RUNS, 0)], *reviews[: max(len(reviews) - KEPT_REVIEWS, 0)]]
