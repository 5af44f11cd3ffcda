"""Every text, list and map of the resource types has a bound, and the bounds keep objects small."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fill import LIMIT_BYTES, UnboundedError, filled
from tests.support.largest import largest_spec, largest_status
from tidegate.api.printing import KINDS, KindInfo

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def _bytes(value: Any) -> int:
    return len(json.dumps(value).encode())


@EVERY_KIND
def test_spec_filled_to_its_bounds_stays_small(kind: KindInfo) -> None:
    assert _bytes(largest_spec(kind)) < LIMIT_BYTES


@EVERY_KIND
def test_status_filled_to_its_bounds_stays_small(kind: KindInfo) -> None:
    assert _bytes(largest_status(kind)) < LIMIT_BYTES


def test_a_text_without_a_bound_is_found() -> None:
    with pytest.raises(UnboundedError, match=r"spec\.prompt has no maxLength"):
        filled({"type": "object", "properties": {"prompt": {"type": "string"}}}, "spec")
