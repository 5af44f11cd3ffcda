"""`python -m tidegate.runner workspace|publisher|checkout|judge|markers|planner|reviewer`: what runs in our Pods."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from tidegate.runner.stop import StopSignal


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Listen to signals before the imports, which take long enough to lose one; then do the role's work."""
    stop = StopSignal()
    if arguments == ["publisher"]:
        stop.install()
    else:
        signal.signal(signal.SIGTERM, _end)
    from tidegate.runner.roles import run_role

    return run_role(arguments, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
