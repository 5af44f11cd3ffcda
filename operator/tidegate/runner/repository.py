"""The attempt's refs at the remote: claiming it, fencing it, pushing what came of it."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tidegate import names
from tidegate.api import reasons
from tidegate.api.wire import AgentInput
from tidegate.clients.git import Credentials, Git, GitError, init_bare
from tidegate.errors import PermanentError, TransientError
from tidegate.runner.objects import ObjectStore, commit_object, write_tree

COMMITTER = "Tidegate <tidegate@tidegate.dev>"
_RETRIES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between tries of a remote that doesn't answer
_BASE_REF = "refs/runner/base"


class FencedError(Exception):
    """Another Pod holds this attempt or a later one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What `workspace` leaves for `publisher`: the base, and the value that the attempts ref must still have."""

    base: str
    value: str

    def save(self, path: Path) -> None:
        """Write it down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Claim:
        """Read it back."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a task's attempts ref."""

    attempt: int
    pod: str

    @property
    def message(self) -> str:
        """The commit message that says so. The nonce makes every value of the ref a new one."""
        return f"attempt {self.attempt}\n\npod: {self.pod}\nnonce: {secrets.token_hex(8)}\n"

    @classmethod
    def parse(cls, message: str) -> Holder:
        """Read the message; a foreign one counts as attempt 0 of nobody."""
        number = re.match(r"attempt (\d{1,9})\n", message)
        pod = re.search(r"^pod: (\S+)$", message, re.MULTILINE)
        return cls(int(number[1]) if number else 0, pod[1] if pod else "")


def open_repository(directory: Path, given: AgentInput, credentials: Credentials, timeout: float = 300) -> Git:
    """Our own bare repository for the attempt, made when it isn't there yet."""
    if not (directory / "HEAD").exists():
        init_bare(directory)
    return Git(directory, given.url, credentials, given.allowed_protocols, timeout)


def patiently(work: Callable[[], str], sleep: Callable[[float], None] = time.sleep) -> str:
    """Do work on a remote, again after a while where it fails; raises the last GitError."""
    for pause in _RETRIES:
        with contextlib.suppress(GitError):
            return work()
        sleep(pause)
    return work()


def fetch_target(git: Git, branch: str) -> str:
    """Fetch the head of the target branch, without its history; returns the commit.

    Raises PermanentError TargetMissing, TransientError when the remote can't be reached.
    """
    ref = f"refs/heads/{branch}"

    def fetch() -> str:
        args = ["fetch", "--quiet", "--no-tags", "--depth=1", "--", git.url, f"+{ref}:{_BASE_REF}"]
        done = git.run(*args, remote=True, ok=None)
        if done.code != 0 and "couldn't find remote ref" in done.err:
            message = f"the repository has no branch {branch}: create it, or set repository.targetBranch"
            raise PermanentError(reasons.TARGET_MISSING, message)
        if done.code != 0 and "shallow" in done.err:  # a server that knows no shallow fetches
            args.remove("--depth=1")
            done = git.run(*args, remote=True, ok=None)
        if done.code != 0:
            raise GitError(args, done.code, done.err)
        return git.text("rev-parse", "--verify", f"{_BASE_REF}^{{commit}}")

    return patiently(fetch)


def write_commit(git: Git, files: Mapping[bytes, bytes], author: str, message: str, seconds: int) -> str:
    """A commit without parents that holds a few files; returns its name."""
    store = ObjectStore(git.directory / "objects")
    tree = write_tree(store, {path: (0o100644, store.write("blob", content)) for path, content in files.items()})
    return store.write("commit", commit_object(tree, (), author, COMMITTER, message, seconds))


def holder_at(git: Git, ref: str, value: str) -> Holder:
    """Who wrote this value of the attempts ref."""
    git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", git.url, f"+{ref}:refs/runner/holder", remote=True)
    return Holder.parse(git.text("log", "-1", "--format=%B", value, "--"))


def claim(git: Git, given: AgentInput, pod: str, seconds: int) -> str:
    """Take the task's attempts ref for this Pod; returns its value.

    Raises FencedError when another Pod holds this number or a higher one, PermanentError when the remote declines,
    TransientError when it can't be reached.
    """
    ref = names.attempt_ref(given.task_uid)

    def take() -> str:
        for _ in range(5):
            before = git.ls_remote(ref).get(ref, "")
            if before:
                holder = holder_at(git, ref, before)
                if holder == Holder(given.attempt, pod):
                    return before
                if holder.attempt >= given.attempt:
                    raise FencedError(f"attempt {holder.attempt} is held by Pod {holder.pod or 'unknown'}")
            mine = write_commit(git, {}, COMMITTER, Holder(given.attempt, pod).message, seconds)
            done = git.run(*_push_words(git, {ref: mine}, {ref: before}), remote=True, ok=None)
            after = git.ls_remote(ref).get(ref, "")
            if after == mine:
                return mine
            if after == before:
                _raise_declined(done.err, done.out)
                raise GitError(("push",), done.code, done.err or done.out.decode("utf-8", "replace"))
        raise TransientError("the attempts ref was taken by others five times in a row")

    return patiently(take)


def _raise_declined(err: str, out: bytes) -> None:
    text = out.decode("utf-8", "replace")
    if "[remote rejected]" in text:
        line = next(line for line in text.splitlines() if "[remote rejected]" in line)
        raise PermanentError(reasons.REFS_NOT_WRITABLE, f"the remote declined {names.REF_PREFIX}: {line[-300:]}")
    if "does not support --atomic" in err:
        raise PermanentError(reasons.REMOTE_NOT_ATOMIC, "the remote can't push several refs as one: use one that can")


def _push_words(git: Git, refs: Mapping[str, str], leases: Mapping[str, str]) -> list[str]:
    held = [f"--force-with-lease={ref}:{value}" for ref, value in leases.items()]
    wanted = [f"{'' if ref in leases else '+'}{value}:{ref}" for ref, value in refs.items()]
    return ["push", "--porcelain", "--quiet", "--atomic", "--no-verify", *held, "--", git.url, *wanted]


@dataclass(slots=True)
class Remote:
    """Pushes an attempt's work, fenced by its claim."""

    git: Git
    given: AgentInput
    pod: str
    claim: Claim
    claim_file: Path

    @property
    def wip_ref(self) -> str:
        """Where work without a good handoff goes."""
        return names.wip_ref(self.given.task_uid, self.given.attempt)

    def push(self, refs: Mapping[str, str], seconds: int, deadline: float) -> None:
        """Move these refs and the attempts ref in one push, again and again until `deadline` (monotonic).

        Raises FencedError when the attempts ref is no longer ours, GitError or PermanentError when it can't be done.
        """
        ref = names.attempt_ref(self.given.task_uid)
        mine = write_commit(self.git, {}, COMMITTER, Holder(self.given.attempt, self.pod).message, seconds)
        words = _push_words(self.git, {**refs, ref: mine}, {ref: self.claim.value})
        pause = 0.5
        while True:
            left = max(1.0, deadline - time.monotonic())
            failure: TransientError | None = None
            try:
                done = self.git.run(*words, remote=True, ok=None, timeout=left)
                now = mine if done.code == 0 else self.git.ls_remote(ref, timeout=left).get(ref, "")
                if now == mine:
                    self.claim = replace(self.claim, value=mine)
                    self.claim.save(self.claim_file)
                    return
                if now != self.claim.value:
                    raise FencedError("another Pod holds the attempt, or its ref is gone")
                _raise_declined(done.err, done.out)
                failure = GitError(("push",), done.code, done.err)
            except GitError as error:
                failure = error
            if time.monotonic() + pause >= deadline:
                raise failure
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def push_plainly(self, refs: Mapping[str, str], seconds: float) -> None:
        """Push to refs that are this attempt's or this Pod's alone. Raises GitError."""
        self.git.run(*_push_words(self.git, refs, {}), remote=True, timeout=seconds)

    def push_unfenced(self, commit: str, deadline: float) -> str:
        """Push work to a ref of this Pod's own; returns the ref."""
        ref = f"{self.wip_ref}-{self.pod[:13]}"
        self.push_plainly({ref: commit}, max(1.0, deadline - time.monotonic()))
        return ref

    def branch_is_ours(self, branch: str) -> bool:
        """True when the ordinary branch is missing at the remote, or its head is this task's work."""
        value = self.git.ls_remote(branch).get(branch, "")
        if not value:
            return True
        wanted = f"+{branch}:refs/runner/branch"
        self.git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", self.git.url, wanted, remote=True)
        message = self.git.text("log", "-1", "--format=%B", value, "--")
        return f"\nTidegate-Task: {self.given.task_uid}\n" in f"\n{message}\n"
