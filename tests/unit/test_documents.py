"""The documents name all that there is, and nothing that there isn't."""

from __future__ import annotations

import re

import pytest

from tests.support.cluster import ROOT
from tidegate.api import reasons

CODE = ROOT / "operator" / "tidegate"


def test_every_reason_is_explained() -> None:
    text = (ROOT / "docs/reasons.md").read_text()
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`", text))
    conditions = {"Planned", "TasksComplete", "MergeQueueDrained", "SweepGreen", "Finalized", "Succeeded", "Ready",
                  "Stalled", "Frozen", "Merged", "Queued", "GatesPassed", "Conflicted", "Bypassed",
                  "NotesWritten"}  # fmt: skip
    known = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert known - conditions <= explained
    assert explained <= known | {"Pending"}


def test_every_metric_is_listed() -> None:
    listed = set(re.findall(r"^\| `(tidegate_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    defined = {
        name
        for path in [*(CODE / "telemetry").glob("*.py"), CODE / "runtime/gauges.py"]
        for name in re.findall(r'"(tidegate_\w+)"', path.read_text())
    }
    assert listed == defined


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_and_files_that_are_named_exist(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target  # type: ignore[attr-defined]
