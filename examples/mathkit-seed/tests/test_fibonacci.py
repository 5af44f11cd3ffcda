"""What `mathkit.fibonacci` must do.

- `fibonacci(n: int) -> int`: the n-th Fibonacci number; `fibonacci(0)` is 0, `fibonacci(1)` is 1
"""

import pytest

fib = pytest.importorskip("mathkit.fibonacci")


def test_fibonacci() -> None:
    assert [fib.fibonacci(n) for n in range(10)] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


def test_fibonacci_of_a_large_index() -> None:
    assert fib.fibonacci(90) == 2880067194370816120
