"""What the remote holds of an attempt whose Pod is gone."""

from __future__ import annotations

from dataclasses import replace

from tidegate import names
from tidegate.api.wire import PublisherReport, WireError
from tidegate.clients.git import BlobMissingError, Credentials, ls_remote, read_blob
from tidegate.tasks.outcome import FoundRefs

REPORT_FILE = "report.json"
TIMEOUT = 30.0  # seconds


def find_refs(url: str, credentials: Credentials | None, task_uid: str, attempt: int, *, protocols: str) -> FoundRefs:
    """Look at the attempt's refs. Blocks; raises GitError while the remote can't be read."""
    task, wip = names.task_ref(task_uid), names.wip_ref(task_uid, attempt)
    handoff = names.handoff_ref(task_uid, attempt)
    found = ls_remote(url, credentials, task, wip, handoff, protocols=protocols, timeout=TIMEOUT)
    report = None
    if handoff in found:
        try:
            text = read_blob(url, credentials, handoff, REPORT_FILE, protocols=protocols, timeout=TIMEOUT)
            report = PublisherReport.loads(text.decode("utf-8", "replace"))
        except (BlobMissingError, WireError):
            report = None
    if report is not None:
        report = replace(report, handoff_commit=found[handoff])
    return FoundRefs(result=found.get(task, ""), wip=found.get(wip, ""), wip_ref=wip, report=report)
