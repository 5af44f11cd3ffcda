"""Coverage and test reports: exact figures, and whatever hostile code may write instead."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.runner.reports import Counts, Covered, ReportError, coverage, junit, percent_text, recognised

COBERTURA = '<?xml version="1.0" ?>\n<!DOCTYPE coverage SYSTEM "http://cobertura.example/coverage-04.dtd">\n{}'


def cobertura(body: str = "", **attributes: object) -> bytes:
    written = " ".join(f'{key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return COBERTURA.format(f"<coverage {written}>{body}</coverage>").encode()


def coverage_py(**totals: object) -> bytes:
    return json.dumps({"meta": {}, "files": {}, "totals": totals}).encode()


LINES = "".join(f'<line number="{n}" hits="{int(n < 849)}"/>' for n in range(1000))
METHOD = f"<methods><method><lines>{LINES}</lines></method></methods>"
CLASSES = f"<packages><package><classes><class>{METHOD}<lines>{LINES}</lines></class></classes></package></packages>"
BLOCKS = b"mode: atomic\na.go:1.2,3.4 849 7\na.go:5.1,6.2 151 0\n"


@pytest.mark.parametrize(
    ("report", "share"),
    [
        (cobertura(lines_valid=1000, lines_covered=849, line_rate="0.85"), Fraction(849, 1000)),
        (cobertura(CLASSES), Fraction(849, 1000)),
        (cobertura(line_rate="0.849"), Fraction(849, 1000)),
        (cobertura(line_rate="1"), Fraction(1)),
        (coverage_py(covered_lines=849, num_statements=1000, percent_covered=85.0), Fraction(849, 1000)),
        (
            coverage_py(covered_lines=8, num_statements=10, covered_branches=9, num_branches=10),
            Fraction(17, 20),
        ),
        (coverage_py(percent_covered=84.9), Fraction(849, 1000)),
        (coverage_py(percent_covered=85), Fraction(85, 100)),
        (b"TN:\nSF:a.js\nDA:1,1\nDA:2,0\nLF:2\nLH:2\nend_of_record\n", Fraction(1, 2)),
        (b"SF:a\nDA:1,1\nDA:2,0\nend_of_record\nSF:a\nDA:1,0\nDA:2,3,hash\nend_of_record\n", Fraction(1)),
        (BLOCKS, Fraction(849, 1000)),
        (BLOCKS + b"a.go:5.1,6.2 151 1\n", Fraction(1)),
    ],
)
def test_each_format_gives_the_exact_share(report: bytes, share: Fraction) -> None:
    assert coverage([report]).share == share


def test_reports_are_added_up_also_of_different_kinds() -> None:
    found = coverage(
        [BLOCKS, cobertura(lines_valid=1000, lines_covered=1000), coverage_py(covered_lines=0, num_statements=2000)]
    )
    assert found == Covered(Fraction(1849, 4000), 1849, 4000)
    with pytest.raises(ReportError, match="rate"):
        coverage([BLOCKS, cobertura(line_rate="0.9")])


@given(covered=st.integers(0, 10**6), more=st.integers(0, 10**6))
def test_what_is_too_low_never_looks_as_if_it_were_enough(covered: int, more: int) -> None:
    if covered + more:
        share = coverage([coverage_py(covered_lines=covered, num_statements=covered + more)]).share
        assert share == Fraction(covered, covered + more)
        assert Fraction(percent_text(share)) <= share * 100 < Fraction(percent_text(share)) + Fraction(1, 100)


def test_percentages_are_cut_not_rounded() -> None:
    assert percent_text(Fraction(84_999, 100_000)) == "84.99"
    assert percent_text(Fraction(85, 100)) == "85"
    assert percent_text(Fraction(1)) == "100"
    assert percent_text(Fraction(849, 1000)) == "84.9"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<coverage line-rate='&b;'/>"
)
OUTSIDE = '<!DOCTYPE c [<!ENTITY x SYSTEM "file:///etc/passwd">]><coverage line-rate="1">&x;</coverage>'
PARAMETER = '<!DOCTYPE c [<!ENTITY % x SYSTEM "http://192.0.2.1/x"> %x;]><coverage line-rate="1"/>'
DEFAULTS = '<!DOCTYPE c [<!ATTLIST coverage line-rate CDATA "1">]><coverage/>'


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"\0" * 100,
        b"<coverage",
        b"<html line-rate='1'/>",
        b"<coverage/>",
        BOMB.encode(),
        OUTSIDE.encode(),
        PARAMETER.encode(),
        DEFAULTS.encode(),
        (COBERTURA.format("<coverage line-rate='1'>&x;</coverage>")).encode(),
        cobertura(lines_valid=0, lines_covered=0, line_rate="1"),
        cobertura(lines_valid=10, lines_covered=11),
        cobertura(lines_valid="1e9", lines_covered=1),
        cobertura(lines_valid=-10, lines_covered=-9),
        cobertura(line_rate="1.1"),
        cobertura(line_rate="NaN"),
        cobertura(line_rate="1e0"),
        cobertura(line_rate="0." + "9" * 99),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{}",
        b'{"totals": []}',
        b'{"totals": {"percent_covered": NaN}}',
        b'{"totals": {"percent_covered": 1e999999999}}',
        b'{"totals": {"percent_covered": true}}',
        b'{"totals": {"percent_covered": "x"}}',
        b'{"totals": {"percent_covered": 101}}',
        coverage_py(covered_lines=True, num_statements=1),
        coverage_py(covered_lines=1.0, num_statements=1),
        coverage_py(covered_lines=10**13, num_statements=10**13),
        coverage_py(covered_lines=0, num_statements=0),
        coverage_py(covered_lines=5, num_statements=1),
        b'{"totals": {"covered_lines": ' + b"9" * 5000 + b', "num_statements": 1}}',
        b"SF:a\nDA:x,1\n",
        b"SF:a\nDA:1,-1\n",
        b"SF:a\nDA:1\n",
        b"SF:a\nend_of_record\n",
        b"mode: set\n",
        b"mode: set\na.go:1.1,2.2 -1 1\n",
        b"mode: set\nnonsense\n",
    ],
)
def test_what_is_no_report_is_refused_not_believed(report: bytes) -> None:
    with pytest.raises(ReportError):
        coverage([report])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_report_or_refused(data: bytes) -> None:
    for begin in (b"", b"<coverage ", b"<testsuite>", b'{"totals":', b"mode: set\n", b"SF:a\nDA:"):
        for read in (lambda text: coverage([text]), lambda text: junit([text])):
            try:
                read(begin + data)
            except ReportError:
                continue


def test_a_format_that_was_named_is_not_guessed() -> None:
    assert recognised(b"\xef\xbb\xbf  <coverage/>") == "Cobertura"
    with pytest.raises(ReportError):
        coverage([BLOCKS], "Lcov")
    assert coverage([b"TN:\nSF:a\nDA:1,1\n"], "Lcov").share == 1


CASES = (
    '<testcase name="a"/><testcase name="b"><failure/><error/></testcase>'
    '<testcase name="c"><skipped message="no"/></testcase><testcase name="d" status="notrun"/>'
)


def test_tests_are_counted_one_by_one_whatever_the_sums_say() -> None:
    nested = (
        f'<testsuites tests="99"><testsuite tests="99"><testsuite>{CASES}</testsuite>{CASES}</testsuite></testsuites>'
    )
    assert junit([nested.encode()]) == Counts(ran=4, skipped=4, failed=2)
    assert junit([f"<testsuite>{CASES}</testsuite>".encode()] * 2) == Counts(ran=4, skipped=4, failed=2)
    assert junit([b"<testsuites/>"]) == Counts(0, 0, 0)


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"{}",
        b"<coverage/>",
        b"<testsuite>",
        b"<testsuite><testcase></testsuite>",
        b'<!DOCTYPE t [<!ENTITY a "<testcase/>">]><testsuite>&a;&a;</testsuite>',
    ],
)
def test_a_bad_test_report_is_refused(report: bytes) -> None:
    with pytest.raises(ReportError):
        junit([report])
