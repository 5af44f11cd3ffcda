"""What `mathkit.parity` must do."""

import pytest

from mathkit import __version__, parity


def test_version() -> None:
    assert __version__.count(".") == 2


def test_is_even() -> None:
    assert [n for n in range(-3, 7) if parity.is_even(n)] == [-2, 0, 2, 4, 6]


def test_nth_odd() -> None:
    assert [parity.nth_odd(n) for n in range(1, 6)] == [1, 3, 5, 7, 9]


def test_nth_odd_starts_at_one() -> None:
    with pytest.raises(ValueError):
        parity.nth_odd(0)
