"""The last container of a gate Pod: judges the reports that the gate left in the checkout.

The gate has ended and nothing of it runs any more. Its files are data: regular files of bounded size, opened without
following symlinks, are read; anything else fails the gate.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from tidegate.api import reasons
from tidegate.api.wire import JudgeInput, JudgeReport
from tidegate.runner.places import Places
from tidegate.runner.reports import MAX_REPORT_BYTES, ReportError, coverage, junit, percent_text
from tidegate.runner.text import one_line
from tidegate.runner.walk import open_root, read_below


class _FailedError(Exception):
    """The gate fails: a reason, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message


def judge(given: JudgeInput, places: Places) -> JudgeReport:
    """What the reports say; `reason` is empty when the gate passes."""
    report = JudgeReport()
    try:
        if given.test_paths:
            report = _with_tests(report, given, places)
        if given.coverage_paths:
            report = _with_coverage(report, given, places)
    except _FailedError as failed:
        return replace(report, reason=failed.reason, message=one_line(failed.message, 500))
    return _with_verdict(report, given)


def _with_tests(report: JudgeReport, given: JudgeInput, places: Places) -> JudgeReport:
    data = _read(places, given.test_paths, reasons.TEST_REPORT_MISSING, reasons.TEST_REPORT_UNREADABLE)
    try:
        found = junit(data)
    except ReportError as error:
        raise _FailedError(reasons.TEST_REPORT_UNREADABLE, f"{', '.join(given.test_paths)}: {error}") from None
    return replace(report, has_tests=True, ran=found.ran, skipped=found.skipped, failed=found.failed)


def _with_coverage(report: JudgeReport, given: JudgeInput, places: Places) -> JudgeReport:
    data = _read(places, given.coverage_paths, reasons.COVERAGE_MISSING, reasons.COVERAGE_UNREADABLE)
    try:
        found = coverage(data, given.coverage_format)
    except ReportError as error:
        raise _FailedError(reasons.COVERAGE_UNREADABLE, f"{', '.join(given.coverage_paths)}: {error}") from None
    enough = found.share * 100 >= Fraction(given.minimum_percent)
    return replace(
        report, percent=percent_text(found.share), covered=found.covered, total=found.total, enough_covered=enough
    )


def _with_verdict(report: JudgeReport, given: JudgeInput) -> JudgeReport:
    """Everything was read: the message tells it all, the reason the worst of it."""
    words = []
    reason = ""
    if report.percent:
        words.append(f"{report.percent} % covered, {given.minimum_percent} % required")
        if not report.enough_covered:
            reason = reasons.COVERAGE_TOO_LOW
    if report.has_tests:
        words.append(f"{report.ran} tests ran, {report.skipped} were skipped")
        if not report.ran:
            reason = reasons.NO_TESTS
    return replace(report, reason=reason, message="; ".join(words))


def _read(places: Places, paths: Iterable[str], missing: str, unreadable: str) -> list[bytes]:
    found = []
    root = open_root(places.workspace)
    try:
        for path in paths:
            try:
                data = read_below(root, os.fsencode(path), MAX_REPORT_BYTES)
            except ValueError as error:
                raise _FailedError(unreadable, f"{path}: {error}") from None
            if data is None:
                raise _FailedError(missing, f"the gate passed but wrote no {path}")
            found.append(data)
    finally:
        os.close(root)
    return found
