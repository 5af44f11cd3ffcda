"""Landing over real remotes: file:// and smart HTTP with a token."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.git_http import TOKEN, USER, git_server
from tests.support.repo import Repo
from tidegate.api import reasons
from tidegate.clients.git import Credentials, Git, GitError
from tidegate.errors import PermanentError, TransientError
from tidegate.lane.landing import (
    Declined,
    Landed,
    LaneRefs,
    LostRaceError,
    Moved,
    Unknown,
    land,
    probe,
    publish,
    read_ledger,
    remove,
    take,
)
from tidegate.lane.ledger import Landing, Ledger
from tidegate.lane.mirror import Mirror, QuotaError, RemoteError

REFS = LaneRefs("lane0", "main")


@dataclass
class Remote:
    """A repository with a base and two sources, and mirrors of it."""

    repo: Repo
    url: str
    root: Path
    credentials: Credentials | None
    base: str
    sources: list[str]

    def mirror(self) -> Mirror:
        mirror = Mirror(self.root / "mirrors", ("ns", "secret", self.url), "file:http")
        mirror.credentials = self.credentials
        return mirror

    def land(self, mirror: Mirror, ledger: Ledger, base: str, commit: str, job: str = "job-1") -> object:
        return land(mirror, REFS, ledger, "me", (Landing(job, commit, base, commit),))

    @property
    def head(self) -> str:
        return self.repo.ref("refs/heads/main")


@pytest.fixture(params=["file", "http"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    repo = Repo(tmp_path / "srv" / "repo.git")
    base = repo.commit({"a": "1"})
    sources = [repo.commit({"a": "1", f"n{n}": "n"}, base) for n in range(2)]
    repo.set("refs/heads/main", base)
    for n, source in enumerate(sources):
        repo.set(f"refs/heads/work{n}", source)
    if request.param == "file":
        yield Remote(repo, repo.url, tmp_path, None, base, sources)
        return
    repo.git("config", "http.receivepack", "true")
    with git_server(tmp_path / "srv") as server:
        yield Remote(repo, server.url("repo"), tmp_path, Credentials(USER, TOKEN), base, sources)


def hook(repo: Repo, name: str, script: str) -> None:
    path = repo.directory / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def test_a_landing_moves_branch_and_ledger_together(remote: Remote) -> None:
    mirror = remote.mirror()
    ledger = take(mirror, REFS, "me")
    result = remote.land(mirror, ledger, remote.base, remote.sources[0])
    assert isinstance(result, Landed)
    assert remote.head == remote.sources[0]
    assert remote.repo.ref(REFS.ledger) == result.ledger.value
    mirror.fetch(REFS.fetched)
    again = read_ledger(mirror, REFS)
    assert again.value == result.ledger.value
    assert again.landed("job-1") == Landing("job-1", remote.sources[0], remote.base, remote.sources[0])
    assert again.sources == result.ledger.sources
    assert again.baseline == remote.sources[0]
    assert again.holds(ledger.value)


def test_an_older_holder_can_not_land(remote: Remote) -> None:
    old, new = remote.mirror(), remote.mirror()
    assert old.directory != new.directory
    held = take(old, REFS, "old")
    take(new, REFS, "new")
    result = remote.land(old, held, remote.base, remote.sources[0])
    assert result == Moved(remote.base, ledger_ours=False)
    assert remote.head == remote.base


def test_a_zombie_with_the_same_name_can_not_land_either(remote: Remote) -> None:
    mirror, again = remote.mirror(), remote.mirror()
    held = take(mirror, REFS, "me")
    take(again, REFS, "me")
    assert isinstance(remote.land(mirror, held, remote.base, remote.sources[0]), Moved)
    assert remote.head == remote.base


def test_a_target_that_others_moved_is_left_alone(remote: Remote) -> None:
    mirror = remote.mirror()
    ledger = take(mirror, REFS, "me")
    remote.repo.set("refs/heads/main", remote.sources[1])
    assert remote.land(mirror, ledger, remote.base, remote.sources[0]) == Moved(remote.sources[1], ledger_ours=True)
    assert remote.repo.ref(REFS.ledger) == ledger.value


def test_a_lost_race_for_the_ledger_is_told(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = remote.mirror(), remote.mirror()
    original = Mirror.fetch

    def fetch(self: Mirror, *refspecs: str) -> None:
        original(self, *refspecs)
        if self is slow:
            take(fast, REFS, "fast")

    monkeypatch.setattr(Mirror, "fetch", fetch)
    with pytest.raises(LostRaceError):
        take(slow, REFS, "slow")


def test_a_candidate_that_drops_commits_is_never_pushed(remote: Remote) -> None:
    """The lease alone would let git overwrite."""
    mirror = remote.mirror()
    ledger = take(mirror, REFS, "me")
    remote.repo.set("refs/heads/main", remote.sources[1])
    mirror.fetch(REFS.fetched)
    with pytest.raises(AssertionError, match="descend"):
        remote.land(mirror, ledger, remote.sources[1], remote.sources[0])
    assert remote.head == remote.sources[1]


def test_a_refusal_of_the_remote_is_declined_with_its_words(remote: Remote) -> None:
    mirror = remote.mirror()
    ledger = take(mirror, REFS, "me")
    hook(remote.repo, "update", 'case "$1" in refs/heads/main) echo "branch is protected\x1b[31m" >&2; exit 1;; esac\n')
    result = remote.land(mirror, ledger, remote.base, remote.sources[0])
    assert isinstance(result, Declined)
    assert "protected" in result.text
    assert "\x1b" not in result.text
    assert (remote.head, remote.repo.ref(REFS.ledger)) == (remote.base, ledger.value)


def test_a_push_cut_off_is_unknown_and_moving_the_ledger_decides(remote: Remote) -> None:
    mirror = remote.mirror()
    ledger = take(mirror, REFS, "me")
    hook(remote.repo, "post-receive", "kill -9 $PPID\n")  # landed, and nobody is told
    result = remote.land(mirror, ledger, remote.base, remote.sources[0])
    assert isinstance(result, Unknown), result
    (remote.repo.directory / "hooks" / "post-receive").unlink()
    after = take(mirror, REFS, "me")
    assert after.holds(ledger.value)
    assert after.landed("job-1") is not None
    assert remote.head == remote.sources[0]


def test_a_push_that_arrives_late_is_fenced(remote: Remote) -> None:
    """A leader dies in the middle of its push; what it sent arrives after the next leader took the lane."""
    old, new = remote.mirror(), remote.mirror()
    held = take(old, REFS, "old")
    gate = remote.root / "gate"
    hook(remote.repo, "pre-receive", f"while [ -e {gate} ]; do sleep 0.02; done\n")
    gate.touch()
    pid = os.fork()
    if pid == 0:
        try:
            remote.land(old, held, remote.base, remote.sources[0])
        finally:
            os._exit(0)
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (remote.repo.directory / "hooks" / "pre-receive").unlink()
    after = take(new, REFS, "new")
    gate.unlink()
    time.sleep(0.7)
    assert after.landed("job-1") is None
    assert remote.head == remote.base
    assert isinstance(remote.land(new, after, remote.base, remote.sources[1], "job-2"), Landed)
    time.sleep(0.3)
    assert remote.head == remote.sources[1]


def test_the_probe_leaves_nothing_behind(remote: Remote) -> None:
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    probe(mirror, REFS, remote.base)
    assert not remote.repo.refs("refs/tidegate/")


def test_the_probe_finds_a_remote_without_atomic_pushes(remote: Remote) -> None:
    remote.repo.git("config", "receive.advertiseAtomic", "false")
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    with pytest.raises(PermanentError) as caught:
        probe(mirror, REFS, remote.base)
    assert caught.value.reason == reasons.REMOTE_NOT_ATOMIC
    assert not remote.repo.refs("refs/tidegate/")


def test_the_probe_finds_refs_that_can_not_be_written(remote: Remote) -> None:
    hook(remote.repo, "update", 'case "$1" in refs/tidegate/*) echo no such namespace >&2; exit 1;; esac\n')
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    for refused in (lambda: probe(mirror, REFS, remote.base), lambda: take(mirror, REFS, "me")):
        with pytest.raises(PermanentError) as caught:
            refused()
        assert caught.value.reason == reasons.REFS_NOT_WRITABLE
    elsewhere = LaneRefs("lane0", "main", "refs/heads/tidegate")
    probe(mirror, elsewhere, remote.base)
    ledger = take(mirror, elsewhere, "me")
    landing = Landing("j", remote.sources[0], remote.base, remote.sources[0])
    assert isinstance(land(mirror, elsewhere, ledger, "me", (landing,)), Landed)


def test_a_person_accepts_a_rewound_branch(remote: Remote) -> None:
    mirror = remote.mirror()
    result = remote.land(mirror, take(mirror, REFS, "me"), remote.base, remote.sources[0])
    assert isinstance(result, Landed)
    remote.repo.set("refs/heads/main", remote.base)
    mirror.fetch(REFS.fetched)
    assert not mirror.contains(remote.base, read_ledger(mirror, REFS).baseline)
    assert take(mirror, REFS, "me", accept=remote.base).baseline == remote.base


def test_refs_are_published_and_removed(remote: Remote) -> None:
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    publish(mirror, {REFS.candidate(remote.base): remote.base, REFS.source("u"): remote.sources[0]})
    assert len(remote.repo.refs("refs/tidegate/lanes/lane0/")) == 2
    remove(mirror, [REFS.source("u"), REFS.source("never was")])
    assert list(remote.repo.refs("refs/tidegate/")) == [REFS.candidate(remote.base)]


def test_a_remote_that_does_not_answer_is_no_verdict(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirrors", ("ns", "", f"file://{tmp_path}/nowhere"), "file")
    with pytest.raises(RemoteError, match="nowhere"):
        take(mirror, REFS, "me")


def test_a_broken_mirror_is_dropped_and_fetched_anew(remote: Remote) -> None:
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    for path in (mirror.directory / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"rubbish")
    with pytest.raises(GitError):
        mirror.contains(remote.sources[0], remote.base)
    mirror.fetch(REFS.fetched)
    assert mirror.contains(remote.sources[0], remote.base)


def test_locks_of_killed_processes_are_removed(remote: Remote) -> None:
    mirror = remote.mirror()
    mirror.fetch(REFS.fetched)
    stale = mirror.directory / "refs" / "remotes" / "origin" / "main.lock"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    mirror.close()
    again = remote.mirror()
    assert again.directory == mirror.directory
    assert not stale.exists()


def test_the_quota_stops_a_repository_that_is_too_big(remote: Remote) -> None:
    big = remote.repo.commit({f"f{n}": os.urandom(20_000) for n in range(20)})
    remote.repo.set("refs/heads/big", big)
    mirror = remote.mirror()
    mirror.quota = 100_000
    with pytest.raises((QuotaError, RemoteError)):
        mirror.fetch(REFS.fetched)


def test_pushes_of_killed_clients_land_once_or_never(remote: Remote) -> None:
    """SIGKILL at random moments of a push; whatever it did, the next holder knows the truth."""
    tip, landed = remote.base, 0
    for number in range(12):
        mirror = remote.mirror()
        ledger = take(mirror, REFS, "victim")
        commit = remote.repo.commit({"a": "1", "n": str(number)}, tip)
        remote.repo.set("refs/heads/work", commit)
        mirror.fetch(REFS.fetched)
        pid = os.fork()
        if pid == 0:
            try:
                remote.land(mirror, ledger, tip, commit, f"job-{number}")
            finally:
                os._exit(0)
        time.sleep(0.012 * number)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        mirror.close()
        successor = remote.mirror()
        for _ in range(5):
            try:
                after = take(successor, REFS, "heir")
                break
            except TransientError:
                time.sleep(0.1)
        recorded = after.landed(f"job-{number}") is not None
        assert (remote.head == commit) == recorded
        time.sleep(0.15)  # anything that still travels arrives now
        assert (remote.head == commit) == recorded
        tip, landed = (commit, landed + 1) if recorded else (tip, landed)
        successor.close()
    assert 0 < landed < 12 or landed in (0, 12)
    subprocess.run(["git", "fsck", "--strict"], cwd=remote.repo.directory, check=True, capture_output=True)


def test_no_credential_is_left_in_the_mirror(remote: Remote) -> None:
    mirror = remote.mirror()
    take(mirror, REFS, "me")
    text = b"".join(path.read_bytes() for path in mirror.directory.rglob("*") if path.is_file())
    assert TOKEN.encode() not in text
    assert Git(mirror.directory).run("config", "--list", "--local").out.find(b"credential") == -1


def test_a_ledger_that_moves_while_it_is_being_taken_is_a_lost_race(tmp_path: Path) -> None:
    remote = Repo(tmp_path / "race")
    remote.set("refs/heads/main", remote.commit({"a": "a"}))
    refs = LaneRefs("lane0", "main")
    mirror = Mirror(tmp_path / "mirrors", ("n", "", remote.url), "file")
    taken = take(mirror, refs, "one")
    other = remote.commit({"o": "o"})
    hook = remote.directory / "hooks" / "update"  # the ref moves after git has checked the lease
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ngit update-ref {refs.ledger} {other} {taken.value}\n")
    hook.chmod(0o755)
    with pytest.raises(LostRaceError):
        take(mirror, refs, "two")
