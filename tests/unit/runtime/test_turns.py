"""Turns with a clock of their own."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.runtime.turns import Turns


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_the_burst_the_turns_come_at_their_pace() -> None:
    clock = Clock()
    turns = Turns(2.0, 3, clock)
    assert [turns.wait(name) for name in "abcdef"] == [0, 0, 0, 0.5, 1.0, 1.5]
    clock.now += 1.0
    assert [turns.wait(name) for name in "def"] == [0, 0, 0.5]
    assert turns.wait("d") > 0, "a turn is taken once"


def test_a_turn_is_kept_until_it_comes_or_is_given_up() -> None:
    clock = Clock()
    turns = Turns(1.0, 1, clock)
    turns.wait("a")
    assert turns.wait("b") == turns.wait("b") == 1.0
    assert turns.wait("c") == 2.0
    turns.forget("b")
    assert turns.wait("c") == 1.0, "those behind move up"


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.integers(1, 5))
def test_never_more_at_once_than_pace_and_burst_allow(pauses: list[float], burst: int) -> None:
    clock = Clock()
    turns = Turns(2.0, burst, clock)
    taken: list[float] = []
    waiting: list[str] = []
    for n, pause in enumerate(pauses):
        clock.now += pause
        waiting = [*waiting, str(n)]
        left = [name for name in waiting if turns.wait(name) > 0]
        taken += [clock.now] * (len(waiting) - len(left))
        waiting = left
    for first in taken:
        assert sum(first <= time < first + 1.0 for time in taken) <= burst + 2
    clock.now += 60
    assert all(turns.wait(name) == 0 for name in waiting[:burst]), "everybody's turn comes"
