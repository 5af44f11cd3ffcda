"""Publishing an attempt: snapshot, handoff, scope, one commit, one atomic push, a report."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.wire import AgentInput, PublisherReport
from tidegate.clients.git import Git, GitError
from tidegate.errors import PermanentError, TidegateError
from tidegate.runner.base import Base, Blobs
from tidegate.runner.conflict import left_markers
from tidegate.runner.handoff import (
    MAX_HANDOFF_BYTES,
    Exit,
    Handoff,
    make_handoff,
    parse_exit,
    parse_handoff,
)
from tidegate.runner.objects import ObjectStore, commit_object
from tidegate.runner.paths import show
from tidegate.runner.places import Places
from tidegate.runner.repository import COMMITTER, FencedError, Remote, write_commit
from tidegate.runner.scan import ALLOW_FILE, Scanner, parse_allow_list
from tidegate.runner.scope import outside
from tidegate.runner.snapshot import Limits, Memory, Snapshot, take_snapshot
from tidegate.runner.text import clean, identity, one_line, without_trailers
from tidegate.runner.usage import Usage, ask_gateway
from tidegate.runner.walk import WalkStoppedError, read_small_file, read_tail

log = logging.getLogger(__name__)
LOG_BYTES = 256 * 1024
_LOG_FILES = ("log.1", "log", "log.new")  # the older first
_RESERVE_SECONDS = 3  # of publishSeconds, for the report


@dataclass(slots=True)
class Attempt:
    """An attempt whose work is to be published."""

    given: AgentInput
    places: Places
    git: Git
    remote: Remote
    base: Base
    scanner: Scanner
    stopped: Callable[[], bool]
    memory: Memory
    last_tree: str = ""

    def limits(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> Limits:
        """Bounds of a snapshot that may take this long."""
        return Limits(self.given.max_files, self.given.max_bytes, time.monotonic() + seconds, stopped)

    def snapshot(self, limits: Limits, memory: Memory | None = None) -> Snapshot:
        """The workspace as it is now."""
        workspace = str(self.places.workspace)
        return take_snapshot(self.git, self.base, workspace, self.scanner, limits, now_ns=time.time_ns(), memory=memory)

    def commit(self, tree: str, message: str) -> str:
        """A commit of the work on the attempt's base."""
        author = identity(self.given.author_name, self.given.author_email)
        content = commit_object(tree, (self.base.commit,), author, COMMITTER, message, int(time.time()))
        return ObjectStore(self.git.directory / "objects").write("commit", content)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be pushed: the tree, the files of the handoff's commit, and whether it may be offered for merging."""

    tree: str
    files: Mapping[bytes, bytes]
    good: bool


def make_scanner(git: Git, base: Base, places: Places) -> Scanner:
    """The scanner with the base's allow-list and our own credentials' values."""
    own: list[bytes] = []
    for file in (*places.credentials.glob("*"), places.token):
        if file.is_file() and file.name not in ("username", "known_hosts"):
            own += [line for line in file.read_bytes().split(b"\n") if not line.startswith(b"-----")]
    entry = base.entries.get(ALLOW_FILE)
    allowed = None
    if entry is not None:
        with Blobs.open(git, timeout=60) as blobs:
            allowed = blobs.read(entry.oid)
    return Scanner(tuple(line.strip() for line in own), parse_allow_list(allowed))


def checkpoint(attempt: Attempt, seconds: float) -> bool:
    """Push the work so far to the work-in-progress ref; False when nothing changed or a stop came in between."""
    if attempt.given.review_commit:
        return False
    try:
        found = attempt.snapshot(attempt.limits(seconds, attempt.stopped), attempt.memory)
    except WalkStoppedError:
        return False
    if found.tree in (attempt.last_tree, attempt.base.tree):
        return False
    given = attempt.given
    message = f"Work in progress of {given.task}\n\nTidegate-Task: {given.task_uid}\nTidegate-Attempt: {given.attempt}"
    commit = attempt.commit(found.tree, message)
    attempt.remote.push_plainly({attempt.remote.wip_ref: commit}, seconds)
    attempt.last_tree = found.tree
    return True


def publish(attempt: Attempt) -> PublisherReport:
    """Publish what the attempt left. What went wrong is in the report, with what could be found out before."""
    deadline = time.monotonic() + max(1, attempt.given.publish_seconds - _RESERVE_SECONDS)
    report = PublisherReport(base=attempt.base.commit)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_gateway, attempt.given.gateway_url, attempt.places.token)
        try:
            report, work = _examine(attempt, asked.result, deadline)
            report = _push(attempt, report, work, deadline)
        except (TidegateError, OSError, ValueError, LookupError) as error:
            reason = error.reason if isinstance(error, PermanentError) else reasons.PUBLISHER_FAILED
            log.exception("the work could not be published")
            message = clean(f"the work could not be published: {error}", 800)
            report = _with_usage(replace(report, error=reason, message=message), asked.result())
    return report


def _examine(attempt: Attempt, usage: Callable[[], Usage], deadline: float) -> tuple[PublisherReport, Work]:
    """Look at all that the attempt left."""
    given = attempt.given
    found = attempt.snapshot(attempt.limits((deadline - time.monotonic()) * 0.6))
    ended = parse_exit(_read(attempt, "exit", 256))
    log = _log_tail(attempt)
    handoff = _handoff(attempt, found, ended, log)
    strangers = outside(found.changed, given.scope)
    refused = [{"path": show(r.path) or ".", "why": r.why} for r in found.refused]
    if found.over_limit:
        refused.insert(0, {"path": ".", "why": f"{found.over_limit}: the rest is missing"})
    added, removed = _line_counts(attempt.git, attempt.base.tree, found.tree)
    markers = left_markers(attempt.git, found.tree, found.changed, attempt.base, given.merge_commit)
    report = PublisherReport(
        handoff_status=handoff.status,
        handoff_valid=handoff.valid,
        handoff_made=handoff.made,
        summary=clean(handoff.summary, 2000),
        base=attempt.base.commit,
        files_changed=len(found.changed),
        lines_added=added,
        lines_removed=removed,
        out_of_scope=[show(os.fsencode(path)) for path in strangers],
        held_back=[{"file": f.path, "line": f.line, "rule": f.rule} for f in found.held_back],
        refused=refused,
        markers=markers,
        tool_calls=_tool_calls(handoff),
        message="; ".join(handoff.faults)[:800],
    )
    report = _with_usage(report, usage())
    blocked = strangers or markers or found.held_back or found.over_limit or given.handoff_only
    good = handoff.valid and handoff.status == "Complete" and ended is not None and ended.code == 0 and not blocked
    return report, Work(found.tree, _handoff_files(handoff, log), good)


def _push(attempt: Attempt, report: PublisherReport, work: Work, deadline: float) -> PublisherReport:
    """Push work and handoff in one step, fenced; where another Pod holds the attempt, only to a ref of our own."""
    given, remote = attempt.given, attempt.remote
    refs: dict[str, str] = {}
    if work.tree != attempt.base.tree and not given.review_commit:
        commit = attempt.commit(work.tree, _message(given, report))
        ref = names.task_ref(given.task_uid) if work.good else remote.wip_ref
        report = replace(report, commit=commit, ref=ref)
        refs[ref] = commit
        if work.good and given.publish_branch:
            report = _add_branch(remote, given.publish_branch, refs, report)
    files = {**work.files, b"report.json": report.dumps().encode()}
    author = identity(given.author_name, given.author_email)
    subject = f"Handoff of {given.task}, attempt {given.attempt}"
    handoff_commit = write_commit(attempt.git, files, author, subject, int(time.time()))
    refs[names.handoff_ref(given.task_uid, given.attempt)] = handoff_commit
    try:
        remote.push(refs, int(time.time()), deadline)
    except FencedError as error:
        own = remote.push_unfenced(report.commit, deadline) if report.commit else ""
        return replace(report, fenced=True, ref=own, message=str(error))
    return replace(report, handoff_commit=handoff_commit)


def _add_branch(remote: Remote, branch: str, refs: dict[str, str], report: PublisherReport) -> PublisherReport:
    try:
        ours = remote.branch_is_ours(branch)
    except GitError:
        ours = False
    if ours and branch.startswith("refs/heads/"):
        refs[branch] = report.commit
        return report
    return replace(report, message=f"{branch} holds work of others and was left alone; {report.message}".strip("; "))


def _read(attempt: Attempt, name: str, limit: int) -> bytes | None:
    try:
        return read_small_file(attempt.places.output / name, limit)
    except ValueError:
        return None


def _log_tail(attempt: Attempt) -> bytes:
    tail = b"".join(read_tail(attempt.places.output / name, LOG_BYTES) for name in _LOG_FILES)[-LOG_BYTES:]
    return attempt.scanner.redact(tail)


def _handoff(attempt: Attempt, found: Snapshot, ended: Exit | None, log: bytes) -> Handoff:
    given = attempt.given
    try:
        content = read_small_file(attempt.places.output / "handoff.json", MAX_HANDOFF_BYTES)
    except ValueError as error:
        return Handoff(faults=(f"handoff: {error}",))
    if content is None and given.handoff_only:
        return Handoff(faults=(f"handoff: none was written, and a {given.role}'s result is its handoff",))
    if content is None:
        return make_handoff(ended, len(found.changed), log.decode("utf-8", "replace"))
    reviewing = bool(given.review_commit)
    handoff = parse_handoff(content, plan_expected=given.role == "Planner", review_expected=reviewing)
    return replace(handoff, document=_redacted(attempt.scanner, handoff.document))


def _redacted(scanner: Scanner, value: Any) -> Any:
    """JSON with the secrets in its texts replaced."""
    if isinstance(value, str):
        return scanner.redact(value.encode("utf-8", "replace")).decode("utf-8", "replace")
    if isinstance(value, list):
        return [_redacted(scanner, item) for item in value]
    if isinstance(value, dict):
        return {_redacted(scanner, key): _redacted(scanner, item) for key, item in value.items()}
    return value


def _handoff_files(handoff: Handoff, log: bytes) -> dict[bytes, bytes]:
    name = b"handoff.json" if handoff.valid else b"handoff.invalid.json"
    return {name: json.dumps(handoff.document, indent=1).encode() + b"\n", b"log": log}


def _tool_calls(handoff: Handoff) -> int:
    usage = handoff.document.get("usage")
    count: Any = usage.get("toolCalls", 0) if handoff.valid and isinstance(usage, dict) else 0
    return int(count)


def _with_usage(report: PublisherReport, usage: Usage) -> PublisherReport:
    message = "; ".join(text for text in (report.message, usage.problem) if text)
    return replace(
        report,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        model_calls=usage.model_calls,
        message=message,
    )


def _line_counts(git: Git, before: str, after: str) -> tuple[int, int]:
    """Lines added and removed between two trees, binary files left out."""
    if before == after:
        return 0, 0
    words = ("diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", before, after)
    added = removed = 0
    for row in git.run(*words, timeout=60).out.split(b"\0"):
        counts = row.split(b"\t", 2)[:2]
        if len(counts) == 2 and counts[0].isdigit() and counts[1].isdigit():
            added, removed = added + int(counts[0]), removed + int(counts[1])
    return added, removed


def _message(given: AgentInput, report: PublisherReport) -> str:
    """The attempt's commit message: subject, the agent's own summary, our trailers."""
    parts = [one_line(given.subject, 100) or f"Attempt {given.attempt} of {given.task}"]
    if not report.handoff_made and (summary := without_trailers(clean(report.summary, 1500))):
        parts.append(summary)
    trailers: Mapping[str, str] = {
        "Tidegate-Agent": one_line(given.agent_class, 100),
        "Tidegate-Task": given.task_uid,
        "Tidegate-Attempt": str(given.attempt),
    }
    parts.append("\n".join(f"{name}: {value}" for name, value in trailers.items() if value))
    return "\n\n".join(parts)
