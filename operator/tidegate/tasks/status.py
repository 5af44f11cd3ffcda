"""Edits of a task's status, as merge patches. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tidegate import names
from tidegate.api import reasons
from tidegate.api.views import TaskView
from tidegate.runtime.conditions import clean_message, drop_condition, get_condition, set_condition
from tidegate.tasks import states, times
from tidegate.tasks.outcome import Outcome

MAX_ATTEMPTS = 10
SUMMARY_BYTES = 1024
HANDOFF_BYTES = 2048

Attempt = dict[str, Any]
Patch = dict[str, Any]


class StatusEdit:
    """Collects changes of a task's status; `patch` holds only what differs from what is there."""

    def __init__(self, task: TaskView, now: datetime) -> None:
        self._before = task.status()
        self._now = times.written(now)
        self._task = task
        self.state: str = self._before.get("state") or states.PENDING
        self.attempts: list[Attempt] = list(self._before.get("attempts") or [])
        self._conditions: list[dict[str, Any]] = list(self._before.get("conditions") or [])
        self._changes: Patch = {}

    # -- conditions and state

    def to_state(self, state: str) -> StatusEdit:
        """Go to a state; raises IllegalTransitionError."""
        self.state = states.step(self.state, state)
        self._changes["state"] = self.state
        return self

    def condition(self, type_: str, status: str, reason: str, message: str) -> StatusEdit:
        """Set a condition."""
        self._conditions = set_condition(
            self._conditions, type_, status, reason, message, now=self._now, generation=self._task.meta.generation
        )
        return self

    def drop(self, type_: str) -> StatusEdit:
        """Take a condition away."""
        self._conditions = drop_condition(self._conditions, type_)
        return self

    def set(self, **fields: Any) -> StatusEdit:
        """Set fields by their names in JSON; None removes one."""
        self._changes.update(fields)
        return self

    # -- attempts

    def open_attempt(self, number: int, agent_class: str, generation: int | None) -> StatusEdit:
        """Record a new attempt before its Pod exists. Records of attempts that never had a Pod make room first."""
        kept = [a for a in self.attempts if a.get("podUID") or not never_started(a)]
        made: Attempt = {
            "number": number,
            "pod": names.pod_name(self._task.meta.name, number),
            "class": agent_class,
            "startTime": self._now,
        }
        if generation:
            made["classGeneration"] = generation
        self.attempts = [*kept, made][-MAX_ATTEMPTS:]
        self._changes["attemptsTotal"] = number
        if not self._before.get("startTime"):
            self._changes["startTime"] = self._now
        return self

    def amend_attempt(self, number: int, **fields: Any) -> StatusEdit:
        """Change fields of a recorded attempt; None removes one. A message is cleaned and cut."""
        if fields.get("message"):
            fields["message"] = clean_message(str(fields["message"]))
        self.attempts = [_amended(a, fields) if a.get("number") == number else a for a in self.attempts]
        return self

    def close_attempt(self, number: int, outcome: Outcome, outcome_word: str) -> StatusEdit:
        """Record how an attempt ended, with where its work is."""
        report = outcome.report
        fields: Attempt = {
            "endTime": self._now,
            "outcome": outcome_word,
            "reason": outcome.reason,
            "message": outcome.message,
            "infrastructure": outcome.infrastructure or None,
            "exitCode": outcome.exit_code,
            "base": outcome.base or None,
            "commit": report.commit or None,
            "ref": report.ref or None,
            "handoffCommit": report.handoff_commit or None,
            "summary": clean_message(report.summary, SUMMARY_BYTES) or None,
        }
        if report.commit:
            fields.update(
                filesChanged=report.files_changed, linesAdded=report.lines_added, linesRemoved=report.lines_removed
            )
        usage = {"tokensIn": report.tokens_in, "tokensOut": report.tokens_out, "modelCalls": report.model_calls}
        if any(usage.values()):
            fields["usage"] = usage
            total = self._before.get("usage") or {}
            self._changes["usage"] = {key: int(total.get(key) or 0) + count for key, count in usage.items()}
        self.amend_attempt(number, **fields)
        self._changes["baseCommit"] = outcome.base or None
        self._changes["ref"] = report.ref or self._before.get("ref")
        if report.handoff_status:
            summary = clean_message(report.summary, HANDOFF_BYTES)
            self._changes["handoff"] = {"status": report.handoff_status, "summary": summary}
        return self

    def count_failure(self, *, infrastructure: bool) -> int:
        """Count an ended attempt against its limit; how many there are now."""
        field = "infrastructureFailures" if infrastructure else "failedAttempts"
        count = int(self._before.get(field) or 0) + 1
        self._changes[field] = count
        return count

    # -- the result

    def patch(self) -> Patch | None:
        """The merge patch, None when nothing differs."""
        found = {key: value for key, value in self._changes.items() if self._differs(key, value)}
        if self._conditions != (self._before.get("conditions") or []):
            found["conditions"] = self._conditions
        if self.attempts != (self._before.get("attempts") or []):
            found["attempts"] = self.attempts
        if found and self._before.get("observedGeneration") != self._task.meta.generation:
            found["observedGeneration"] = self._task.meta.generation
        return found or None

    def found_condition(self, type_: str) -> dict[str, Any]:
        """The condition as it is in this edit, empty when there is none."""
        return get_condition(self._conditions, type_) or {}

    def _differs(self, key: str, value: Any) -> bool:
        if key == "state":
            return bool(value != self._before.get("state"))
        return value != self._before.get(key) if value is not None else key in self._before


def _amended(attempt: Attempt, fields: Attempt) -> Attempt:
    return {key: value for key, value in {**attempt, **fields}.items() if value is not None}


def never_started(attempt: Attempt) -> bool:
    """Whether an ended attempt never got a Pod: it counts for nothing."""
    return bool(attempt.get("endTime")) and attempt.get("reason") in NEVER_STARTED


NEVER_STARTED = frozenset(
    {
        reasons.QUOTA_EXCEEDED,
        reasons.POD_REFUSED,
        reasons.NAME_TAKEN,
        reasons.CLASS_MISSING,
        reasons.PROFILE_MISSING,
        reasons.NO_GATE_TO_RUN,
        reasons.NAMESPACE_NOT_ALLOWED,
        reasons.BUILD_MISSING,
        reasons.SECRET_MISSING,
        reasons.SECRET_NOT_FOR_REPOSITORY,
        reasons.URL_REFUSED,
    }
)


def newest(task: TaskView) -> Attempt:
    """The newest attempt's record, empty when there is none."""
    found: list[Attempt] = task.status().get("attempts") or []
    return max(found, key=lambda attempt: int(attempt.get("number") or 0), default={})
