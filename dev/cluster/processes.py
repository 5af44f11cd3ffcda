"""Processes that outlive the command: started in sessions of their own, recorded, ended by pid and start time only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import shell
from dev.cluster.errors import ClusterError
from dev.cluster.settings import LOGS, PROCESS_MARK, RUN, STATE

LOG_LIMIT_BYTES = 32 << 20
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """One process of one boot: a pid alone may name another process later."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether exactly this process still runs (a zombie does not)."""
        return _start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still there."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        return int(boot.split()[1]) + self.started / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Resident memory in MiB, 0 where it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`; None where there is no live process of that number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _record(name: str) -> Path:
    return RUN / "processes" / f"{name}.json"


def recorded(name: str) -> Process | None:
    """The process that was last started under `name`, alive or not."""
    try:
        data = json.loads(_record(name).read_text())
        return Process(int(data["pid"]), int(data["started"]))
    except (OSError, ValueError, KeyError):
        return None


def running(name: str) -> bool:
    """Whether the process recorded under `name` is alive."""
    process = recorded(name)
    return process is not None and process.alive()


def names() -> list[str]:
    """Names of all recorded processes."""
    return sorted(path.stem for path in (RUN / "processes").glob("*.json"))


def log_file(name: str) -> Path:
    """Where the process of that name writes its output."""
    return LOGS / f"{name}.log"


def start(name: str, command: Sequence[str | Path], extra_environment: Mapping[str, str] | None = None) -> None:
    """Start `command` under `name`, unless it runs already."""
    if running(name):
        return
    log = log_file(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    mark = {PROCESS_MARK: str(STATE), **(extra_environment or {})}
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=shell.environment(mark),
            cwd="/",
        )
    started = _start_time(child.pid) or 0
    path = _record(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": child.pid, "started": started, "command": [str(word) for word in command]}))


def stop(name: str, patience: float) -> None:
    """End the process recorded under `name`: SIGTERM, and SIGKILL after `patience` seconds."""
    process = recorded(name)
    if process is not None:
        end([process], patience)
    _record(name).unlink(missing_ok=True)


def end(all_of: Iterable[Process], patience: float) -> None:
    """End the processes: SIGTERM, then SIGKILL to those left after `patience` seconds."""
    left = [process for process in all_of if process.alive()]
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for process in left:
            process.send(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(process.alive() for process in left):
            _collect_children()
            time.sleep(_POLL_SECONDS)
        left = [process for process in left if process.alive()]


def _collect_children() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def marked() -> list[Process]:
    """Every live process that carries the cluster's mark in its environment, but this one.

    Finds what a crash left unrecorded, and containerd's shims.
    """
    mark = f"{PROCESS_MARK}={STATE}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                started = _start_time(int(entry.name))
                if started is not None:
                    found.append(Process(int(entry.name), started))
    return found


def wait_until(check: Callable[[], bool], what: str, seconds: float, process: str | None = None) -> None:
    """Wait until `check` holds. Raises ClusterError after `seconds`, or at once when `process` has ended."""
    deadline = time.monotonic() + seconds
    while not check():
        ended = process is not None and not running(process)
        if ended or time.monotonic() > deadline:
            why = f"{process} ended" if ended else f"timed out after {seconds:g} s"
            raise ClusterError(f"{what}: {why}{_log_hint(process)}")
        time.sleep(0.1)


def _log_hint(name: str | None) -> str:
    if name is None:
        return ""
    log = log_file(name)
    try:
        last = log.read_text(errors="replace").splitlines()[-12:]
    except OSError:
        last = []
    return f"; the end of {log}:\n  " + "\n  ".join(last)
