"""A reviewer's verdict on a change, as it stands in a handoff (key `review`). Pure, standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_MERGE_BASES = 8
MAX_CHANGE_BYTES = 2 * 1024 * 1024  # of a change as a diff; nobody is asked about a longer one
MAX_SUMMARY = 1000
MAX_FINDINGS = 20
MAX_PATH = 256
MAX_MESSAGE = 300
MAX_LINE = 10_000_000
_FIELDS = {"approved", "summary", "findings"}
_FINDING_FIELDS = {"path", "line", "message"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where. `line` is 0 where none is named."""

    path: str
    line: int
    message: str

    @property
    def words(self) -> str:
        """One line for people."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        return " ".join(f"{where}: {self.message}".split())


@dataclass(frozen=True, slots=True)
class Review:
    """A verdict."""

    approved: bool
    summary: str
    findings: tuple[Finding, ...] = ()


def read_review(document: Any) -> Review | str:
    """The verdict in a JSON value, or what is wrong with it. What isn't clear approves of nothing."""
    if not isinstance(document, dict):
        return "review: not an object"
    if unknown := sorted(str(key) for key in document.keys() - _FIELDS):
        return f"review: unknown fields {', '.join(unknown[:5])}"[:200]
    approved, findings = document.get("approved"), document.get("findings", [])
    if approved is not True and approved is not False:
        return "review.approved: not true or false"
    if fault := _text_fault(document.get("summary"), MAX_SUMMARY):
        return f"review.summary: {fault}"
    if not isinstance(findings, list) or len(findings) > MAX_FINDINGS:
        return f"review.findings: not a list of at most {MAX_FINDINGS}"
    for number, finding in enumerate(findings):
        if fault := _finding_fault(finding):
            return f"review.findings[{number}]{fault}"
    made = tuple(Finding(one["path"], one.get("line") or 0, one["message"]) for one in findings)
    return Review(approved, document["summary"], made)


def _finding_fault(finding: Any) -> str:
    if not isinstance(finding, dict) or finding.keys() - _FINDING_FIELDS:
        return ": not an object of path, line and message"
    for name, most in (("path", MAX_PATH), ("message", MAX_MESSAGE)):
        if fault := _text_fault(finding.get(name), most):
            return f".{name}: {fault}"
    line = finding.get("line", 0)
    if line is not None and (not isinstance(line, int) or isinstance(line, bool) or not 0 <= line <= MAX_LINE):
        return ".line: not a line's number"
    return ""


def _text_fault(value: Any, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        return "not a text"
    return f"longer than {most} characters" if len(value) > most else ""
