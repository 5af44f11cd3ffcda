"""What `mathkit.divisors` must do.

- `gcd(a: int, b: int) -> int`: the greatest common divisor
- `lcm(a: int, b: int) -> int`: the least common multiple
"""

import pytest

div = pytest.importorskip("mathkit.divisors")


def test_gcd() -> None:
    assert div.gcd(12, 18) == 6
    assert div.gcd(17, 5) == 1
    assert div.gcd(0, 7) == 7


def test_lcm() -> None:
    assert div.lcm(4, 6) == 12
    assert div.lcm(5, 7) == 35
    assert div.lcm(21, 6) == 42
