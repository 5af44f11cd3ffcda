"""What `mathkit.primes` must do.

- `is_prime(n: int) -> bool`: whether `n` is a prime number; no number below 2 is
- `primes_up_to(limit: int) -> list[int]`: all primes up to and including `limit`, in order
"""

import pytest

primes = pytest.importorskip("mathkit.primes")


def test_is_prime() -> None:
    assert [n for n in range(-5, 30) if primes.is_prime(n)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


def test_is_prime_of_squares() -> None:
    assert not any(primes.is_prime(n * n) for n in range(2, 40))


def test_primes_up_to_includes_the_limit() -> None:
    assert primes.primes_up_to(13) == [2, 3, 5, 7, 11, 13]


def test_primes_up_to_below_two_is_empty() -> None:
    assert primes.primes_up_to(1) == []
