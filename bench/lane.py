"""Candidates and landings against the same work done by git's plumbing alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tidegate.clients.git import Git
from tidegate.clients.git_objects import Objects
from tidegate.lane.candidate import Change, form
from tidegate.lane.decide.model import Formed
from tidegate.lane.guard import Guard
from tidegate.lane.landing import Landed, LaneRefs, land, take
from tidegate.lane.ledger import Landing
from tidegate.lane.mirror import Mirror

FILES = 10_000
FILES_PER_DIRECTORY = 100
CHANGES = 40
ENV = {
    **os.environ,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def _git(directory: Path, *arguments: str, data: bytes | None = None) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, input=data, capture_output=True, env=ENV).stdout.decode().strip()


def _path(number: int) -> str:
    return f"src/part{number // FILES_PER_DIRECTORY}/file{number}.py"


def make_remote(directory: Path) -> tuple[str, list[str]]:
    """A bare repository with `main` and one branch a change, each of another file; main's head and the changes."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(directory)], check=True, env=ENV)
    who = "committer Bench <bench@example.org> 1700000000 +0000\ndata 1\nx"
    lines = [f"commit refs/heads/main\nmark :1\n{who}"]
    lines += [f"M 644 inline {_path(n)}\ndata {len(body := f'value = {n}' + chr(10))}\n{body}" for n in range(FILES)]
    for n in range(CHANGES):
        body, path = f"value = {n}\nmore = {n}\n", _path(n * (FILES // CHANGES))
        lines.append(f"commit refs/heads/change{n}\n{who}\nfrom :1\nM 644 inline {path}\ndata {len(body)}\n{body}")
    _git(directory, "fast-import", "--quiet", data="\n".join(lines).encode() + b"\n")
    changes = [_git(directory, "rev-parse", f"refs/heads/change{n}") for n in range(CHANGES)]
    return _git(directory, "rev-parse", "refs/heads/main"), changes


def by_plumbing(directory: Path) -> float:
    """Seconds to form and land every change with one git process a step."""
    head, changes = make_remote(directory / "plumbing.git")
    mirror = directory / "plumbing-mirror.git"
    url = (directory / "plumbing.git").as_uri()
    subprocess.run(["git", "clone", "-q", "--mirror", url, str(mirror)], check=True, env=ENV)
    tree = _git(mirror, "rev-parse", f"{head}^{{tree}}")
    ledger = _git(mirror, "commit-tree", tree, "-m", "acquire")
    _git(mirror, "push", "-q", url, f"{ledger}:refs/tidegate/ledger")
    started = time.perf_counter()
    for change in changes:
        _git(mirror, "merge-base", "--all", head, change)
        merged = _git(mirror, "merge-tree", "--write-tree", "--no-messages", head, change)
        candidate = _git(mirror, "commit-tree", merged, "-p", head, "-m", "x")
        entry = _git(mirror, "commit-tree", tree, "-p", ledger, "-m", f"land {change} {head} {candidate}")
        _git(
            mirror, "push", "-q", "--atomic", f"--force-with-lease=refs/heads/main:{head}",
            f"--force-with-lease=refs/tidegate/ledger:{ledger}", url, f"{candidate}:refs/heads/main",
            f"{entry}:refs/tidegate/ledger",
        )  # fmt: skip
        head, ledger = candidate, entry
    return time.perf_counter() - started


def by_lane(directory: Path) -> float:
    """Seconds for the same by the lane's own code."""
    head, changes = make_remote(directory / "lane.git")
    url = (directory / "lane.git").as_uri()
    mirror = Mirror(directory / "mirrors", ("bench", "", url), "file")
    refs = LaneRefs("bench", "main")
    ledger = take(mirror, refs, "bench")
    started = time.perf_counter()
    for number, change in enumerate(changes):
        with mirror.work() as git:
            candidate = _form(git, head, change)
        result = land(mirror, refs, ledger, "bench", (Landing(f"job-{number}", change, head, candidate),))
        assert isinstance(result, Landed), result
        head, ledger = candidate, result.ledger
    took = time.perf_counter() - started
    mirror.close()
    assert _git(directory / "lane.git", "rev-parse", "refs/heads/main") == head
    return took


def _form(git: Git, head: str, change: str) -> str:
    with Objects(git) as objects:
        outcome = Guard().checked(objects, form(objects, head, Change(change)))
    assert isinstance(outcome, Formed), outcome
    return outcome.commit


def measure(directory: Path, say: Callable[[str], None]) -> float:
    """The lane's time over plumbing's: the best of two runs each."""
    say(f"  {CHANGES} candidates and landings")
    runs = [(directory / f"git-{n}") for n in range(2)]
    for run in runs:
        run.mkdir()
    plumbing = min(by_plumbing(run) for run in runs)
    lane = min(by_lane(run) for run in runs)
    say(f"    plumbing {CHANGES / plumbing:.1f}/s, lane {CHANGES / lane:.1f}/s")
    return lane / plumbing
