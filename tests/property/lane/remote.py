"""The remote of a lane under test: hooks that cut or hold a push, and a log of every value of the branch."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.support.repo import Repo
from tidegate.clients.git import Git
from tidegate.lane.landing import PushReport

TARGET = "refs/heads/main"
_PRE = """#!/bin/sh
cat >/dev/null
if [ -e cut-before ]; then rm cut-before; kill -9 $PPID; exit 1; fi
if [ -n "$TIDEGATE_HOLD" ]; then
  echo $PPID >"$TIDEGATE_HOLD.pid"; mv "$TIDEGATE_HOLD.pid" "$TIDEGATE_HOLD.here"
  while [ -e "$TIDEGATE_HOLD" ]; do sleep 0.005; done
fi
exit 0
"""
_POST = """#!/bin/sh
cat >/dev/null
if [ -e cut-after ]; then rm cut-after; kill -9 $PPID; fi
exit 0
"""


class Remote:
    """A bare repository behind file://."""

    def __init__(self, directory: Path) -> None:
        self.repo = Repo(directory)
        self.directory = directory
        self.repo.git("config", "core.logAllRefUpdates", "always")
        self.repo.git("config", "receive.autogc", "false")
        for name, script in (("pre-receive", _PRE), ("post-receive", _POST)):
            path = directory / "hooks" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(script)
            path.chmod(0o755)
        self._numbers = itertools.count()
        self._held: list[tuple[Path, int]] = []  # file that holds it, process id of the receiving side

    def values(self) -> list[tuple[str, str]]:
        """Every move of the branch, old and new value, oldest first."""
        log = self.directory / "logs" / TARGET
        lines = log.read_text().splitlines() if log.exists() else []
        return [(line[:40], line[41:81]) for line in lines]

    def cut(self, when: str) -> None:
        """Have the next push lose its receiving side: `before` its refs move, or `after`."""
        (self.directory / f"cut-{when}").touch()

    def mend(self) -> None:
        """Cut nothing any more."""
        for when in ("before", "after"):
            (self.directory / f"cut-{when}").unlink(missing_ok=True)

    # --- pushes that arrive late

    @property
    def held(self) -> int:
        """How many pushes are under way."""
        return len(self._held)

    def send_and_kill(self, git: Git, arguments: tuple[str, ...]) -> PushReport | None:
        """Start a real push and SIGKILL its client once everything is sent: the receiving side goes on when it is let.
        Returns a report where git refused to send."""
        hold = self.directory / f"hold-{next(self._numbers)}"
        hold.touch()
        command = git._command(("push", "--porcelain", "--no-verify", "--no-follow-tags", *arguments), ())
        owner = git._spawn(command, {"TIDEGATE_HOLD": str(hold)}, False)
        process = owner.proc
        assert isinstance(process, subprocess.Popen)
        owner.proc = None
        here = hold.with_suffix(".here")
        deadline = time.monotonic() + 20
        while not here.exists() and process.poll() is None:
            assert time.monotonic() < deadline, "the push did not arrive"
            time.sleep(0.003)
        if not here.exists():
            hold.unlink()
            process.communicate()
            return PushReport(128, {}, "refused before it was sent")
        receiver = int(here.read_text())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._held.append((hold, receiver))
        return None

    def release(self, number: int = 0) -> None:
        """Let one of the held pushes go on to its end."""
        hold, receiver = self._held.pop(number)
        hold.unlink()
        deadline = time.monotonic() + 20
        while _lives(receiver):
            assert time.monotonic() < deadline, "a push did not end"
            time.sleep(0.003)

    def release_all(self) -> None:
        """Let everything arrive."""
        while self._held:
            self.release()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
