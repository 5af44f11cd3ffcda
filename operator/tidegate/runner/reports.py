"""What coverage and test reports say. Pure: bytes in, numbers out.

The reports were written by code under test: size, nesting, entities and figures are as it pleases. Figures are exact
fractions throughout, so that 84.99 % is never taken for 85 %.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from xml.parsers import expat

MAX_REPORT_BYTES = 32 * 1024 * 1024
MAX_LINES = 2_000_000  # that are told apart one by one
MAX_COUNT = 10**12
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,30})?")
_COUNT = re.compile(r"[0-9]{1,13}")
_GO_BLOCK = re.compile(r"(.+:[0-9]+\.[0-9]+,[0-9]+\.[0-9]+) ([0-9]{1,13}) ([0-9]{1,20})")
_NOT_RUN = ("skipped", "notrun", "disabled", "ignored")

COBERTURA, COVERAGE_PY, LCOV, GO = "Cobertura", "CoveragePy", "Lcov", "Go"


class ReportError(ValueError):
    """The report can't be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Covered:
    """How much of the code ran. `covered` of `total` lines or statements; both 0 where the report gives only a rate."""

    share: Fraction  # 0 to 1
    covered: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tests ran, and how many were skipped instead. `failed` are among those that ran."""

    ran: int
    skipped: int
    failed: int


def coverage(reports: Iterable[bytes], kind: str = "") -> Covered:
    """What reports say together; each is recognised by its first characters unless its kind is given.

    Raises ReportError.
    """
    found = [_READERS[kind or recognised(data)](data) for data in reports]
    if len(found) == 1:
        return found[0]
    if any(not one.total for one in found):
        raise ReportError("reports that give only a rate can't be added up: have them give numbers of lines")
    covered, total = sum(one.covered for one in found), sum(one.total for one in found)
    return _of(covered, total)


def recognised(data: bytes) -> str:
    """The kind of a coverage report. Raises ReportError."""
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<"):
        return COBERTURA
    if head.startswith(b"{"):
        return COVERAGE_PY
    if head.startswith(b"mode:"):
        return GO
    if head.startswith((b"TN:", b"SF:")):
        return LCOV
    raise ReportError("neither Cobertura XML, JSON of coverage.py, LCOV nor a Go cover profile")


def _of(covered: int, total: int) -> Covered:
    if not 0 <= covered <= total <= MAX_COUNT:
        raise ReportError(f"{covered} of {total} lines covered can't be")
    if not total:
        raise ReportError("it counts no line of code: look at which files the tool measures")
    return Covered(Fraction(covered, total), covered, total)


def _rate(text: object, most: int) -> Covered:
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ReportError("it gives neither numbers of lines nor a rate")
    share = Fraction(text) / most
    if share > 1:
        raise ReportError(f"a rate of {text} can't be")
    return Covered(share)


# -- XML


def _parse(data: bytes, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None]) -> None:
    """Feed a document's elements to `start` and `end`. Entities, and whatever could bring some, are refused."""
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_args: object) -> Any:
        raise ReportError("XML with entities of its own is refused")

    def doctype(_name: str, _system: str | None, _public: str | None, internal: int) -> None:
        if internal:
            refuse()

    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.SkippedEntityHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ReportError(f"not XML: {error}") from None


def _cobertura(data: bytes) -> Covered:
    """By the numbers that the root gives, else by its lines, else by its rate."""
    root: dict[str, str] = {}
    above: list[str] = []
    lines = [0, 0]  # covered, all

    def start(name: str, attributes: dict[str, str]) -> None:
        if not above:
            if name != "coverage":
                raise ReportError(f"the root element is {name[:40]!r}, not 'coverage'")
            root.update(attributes)
        elif name == "line" and above[-2:] == ["class", "lines"]:
            lines[0] += attributes.get("hits", "0").strip() not in ("", "0")
            lines[1] += 1
        above.append(name)

    def end(_name: str) -> None:
        above.pop()

    _parse(data, start, end)
    if "lines-valid" in root and "lines-covered" in root:
        return _of(_count(root["lines-covered"]), _count(root["lines-valid"]))
    return _of(*lines) if lines[1] else _rate(root.get("line-rate"), 1)


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ReportError(f"{text[:40]!r} is not a number of lines")
    return int(text)


def junit(reports: Iterable[bytes]) -> Counts:
    """What JUnit XML says, reports added up; each `testcase` counts, whatever the sums in the attributes are.

    Raises ReportError.
    """
    total = skipped = failed = 0
    for data in reports:
        one = _junit(data)
        total, skipped, failed = total + one.ran + one.skipped, skipped + one.skipped, failed + one.failed
    return Counts(total - skipped, skipped, failed)


def _junit(data: bytes) -> Counts:
    above: list[str] = []
    marks: set[str] = set()
    counts = dict.fromkeys(("all", "skipped", "failed"), 0)

    def start(name: str, attributes: dict[str, str]) -> None:
        if not above and name not in ("testsuites", "testsuite"):
            raise ReportError(f"the root element is {name[:40]!r}, not 'testsuites' or 'testsuite'")
        if name == "testcase":
            marks.clear()
            if attributes.get("status", "").lower() in _NOT_RUN:
                marks.add("skipped")
        elif above and above[-1] == "testcase" and name in ("skipped", "failure", "error"):
            marks.add(name)
        above.append(name)

    def end(name: str) -> None:
        above.pop()
        if name == "testcase":
            counts["all"] += 1
            counts["skipped"] += "skipped" in marks
            counts["failed"] += "skipped" not in marks and bool(marks)

    _parse(data, start, end)
    return Counts(counts["all"] - counts["skipped"], counts["skipped"], counts["failed"])


# -- the others


def _coverage_py(data: bytes) -> Covered:
    """As coverage.py itself reckons: branches count beside lines where they were measured."""
    try:
        found: Any = json.loads(data, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"not JSON: {type(error).__name__}") from None
    totals = found.get("totals") if isinstance(found, dict) else None
    if not isinstance(totals, dict):
        raise ReportError("it has no totals")
    if "covered_lines" in totals and "num_statements" in totals:
        numbers = [
            totals.get(key, 0) for key in ("covered_lines", "covered_branches", "num_statements", "num_branches")
        ]
        if any(type(number) is not int or not 0 <= number <= MAX_COUNT for number in numbers):
            raise ReportError("its totals are no numbers of lines")
        return _of(numbers[0] + numbers[1], numbers[2] + numbers[3])
    percent = totals.get("percent_covered")
    return _rate(str(percent) if type(percent) is int else percent, 100)


def _lcov(data: bytes) -> Covered:
    """Each line of each file once, however many tests speak of it."""
    files: dict[bytes, dict[int, bool]] = {}
    lines: dict[int, bool] = {}
    count = 0
    for row in data.splitlines():
        if row.startswith(b"SF:"):
            lines = files.setdefault(row[3:].strip(), {})
        elif row.startswith(b"DA:"):
            number, hits = [*row[3:].split(b","), b""][:2]
            if not (number.isdigit() and hits.strip().isdigit() and len(number) < 10):
                raise ReportError("a DA: record that is not DA:line,hits")
            count += 1
            if count > MAX_LINES:
                raise ReportError(f"more than {MAX_LINES} lines")
            lines[int(number)] = lines.get(int(number), False) or hits.strip(b" 0") != b""
    return _of(sum(sum(found.values()) for found in files.values()), sum(map(len, files.values())))


def _go(data: bytes) -> Covered:
    """Each block once, however many packages' tests speak of it."""
    blocks: dict[str, tuple[int, bool]] = {}
    for row in data.decode("utf-8", "replace").splitlines():
        if not row or row.startswith("mode:"):
            continue
        block = _GO_BLOCK.fullmatch(row)
        if block is None:
            raise ReportError("a record that is not name.go:line.column,line.column statements count")
        place, statements, hits = block.groups()
        before = blocks.get(place, (0, False))
        blocks[place] = (int(statements), before[1] or hits.strip("0") != "")
        if len(blocks) > MAX_LINES:
            raise ReportError(f"more than {MAX_LINES} blocks")
    found = blocks.values()
    return _of(sum(statements for statements, hit in found if hit), sum(statements for statements, _ in found))


_READERS: dict[str, Callable[[bytes], Covered]] = {
    COBERTURA: _cobertura, COVERAGE_PY: _coverage_py, LCOV: _lcov, GO: _go,
}  # fmt: skip


def percent_text(share: Fraction) -> str:
    """A share as a percentage for people, cut after two decimals: what is too low never looks as if it were enough."""
    hundredths = share.numerator * 10_000 // share.denominator
    return f"{hundredths // 100}.{hundredths % 100:02}".rstrip("0").rstrip(".")
