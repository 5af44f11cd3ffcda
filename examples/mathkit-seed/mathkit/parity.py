"""Even and odd numbers."""


def is_even(n: int) -> bool:
    """Whether `n` is divisible by two."""
    return n % 2 == 0


def nth_odd(n: int) -> int:
    """The n-th odd number, counted from 1. Raises ValueError when `n` is below 1."""
    if n < 1:
        raise ValueError("n must be at least 1")
    return 2 * n - 1
