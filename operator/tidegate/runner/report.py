"""The publisher's report, cut to what a termination message holds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tidegate.api.wire import TERMINATION_MESSAGE_BYTES, PublisherReport
from tidegate.runner.text import clean

T = TypeVar("T")
_LISTS = ("out_of_scope", "held_back", "refused", "markers")
_SIZES = ((20, 1024, 300), (10, 512, 200), (5, 256, 120), (2, 120, 80), (1, 60, 40), (0, 0, 0))


def _first(items: Sequence[T], count: int, more: T) -> list[T]:
    return list(items) if len(items) <= count else [*items[:count], more]


def _shorter(row: dict[str, Any], words: int) -> dict[str, Any]:
    return {key: clean(value, words) if isinstance(value, str) else value for key, value in row.items()}


def shortened(report: PublisherReport) -> PublisherReport:
    """The same report in at most 4096 bytes: lists end with how many more there are, texts are cut."""
    for items, text, words in _SIZES:
        left = {name: max(0, len(getattr(report, name)) - items) for name in _LISTS}
        short = replace(
            report,
            summary=clean(report.summary, text) if text else "",
            message=clean(report.message, max(text, 200)),
            out_of_scope=_first(
                [clean(path, max(words, 20)) for path in report.out_of_scope], items, f"and {left['out_of_scope']} more"
            ),
            held_back=_first(
                [_shorter(row, max(words, 20)) for row in report.held_back],
                items,
                {"file": f"and {left['held_back']} more", "line": 0, "rule": ""},
            ),
            refused=_first(
                [_shorter(row, max(words, 20)) for row in report.refused],
                items,
                {"path": f"and {left['refused']} more", "why": ""},
            ),
            markers=_first(
                [_shorter(row, max(words, 20)) for row in report.markers],
                items,
                {"file": f"and {left['markers']} more", "line": 0},
            ),
        )
        if len(short.dumps()) <= TERMINATION_MESSAGE_BYTES:
            return short
    raise ValueError("a report without its lists and texts is still too long")
