"""Steps with elapsed seconds on standard error, with a heartbeat while a long one runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 15.0
_begun = time.monotonic()


def say(text: str) -> None:
    """Print one line with the seconds since the command began."""
    print(f"[{time.monotonic() - _begun:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce `text`, repeat it with its elapsed seconds while it takes long, and say when it is done."""
    begun = time.monotonic()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            say(f"... {text}: {time.monotonic() - begun:.0f} s so far")

    say(text)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    took = time.monotonic() - begun
    if took >= 1:
        say(f"    {text}: done in {took:.1f} s")
