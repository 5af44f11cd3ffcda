"""A lane with two replicas of the real operator code, a real repository, and everything that may go wrong."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.property.lane.checker import ENDED, Checker, Verdict
from tests.property.lane.content import REGULAR, Entry, Files, Store
from tests.property.lane.fakeapi import FakeApi
from tests.property.lane.remote import TARGET, Remote
from tests.property.lane.replica import Died, Replica
from tidegate import names
from tidegate.clients.git import Git
from tidegate.lane import landing
from tidegate.lane.landing import PushReport
from tidegate.runtime.keys import Key

NAMESPACE = "ns"
STRATEGIES = ("Rebase", "Squash", "MergeCommit", "FastForward")
FATES = (
    "cut before",
    "cut after",
    "late",
    "late, and die",
    "die before",
    "die after",
    "overtaken",
    "raced",
    "cancelled",
)
GATES = ("tests", "lint")
PEACE = 3000  # steps in which everything must have ended
FAST = "/dev/shm"


class World:
    """What a test does to a lane; `close` it at the end."""

    def __init__(self, window: int = 3, slots: int = 6) -> None:
        shared = FAST if Path(FAST).is_dir() else None
        self.root = Path(tempfile.mkdtemp(prefix="tidegate-lane-", dir=shared))
        self.remote = Remote(self.root / "remote.git")
        self.store = Store(self.remote.directory)
        self.api = FakeApi()
        self.checker = Checker(self.remote, self.store, GATES)
        self.api.on_change = self._on_change
        self.fate = ""  # of the next push of a landing
        self.overtake = 12  # steps of the other one in the middle of a push that is overtaken
        self.clock = 0.0
        self._numbers = 0
        self._incarnations = 0
        self._busy = ""
        self.replicas: dict[str, Replica] = {}
        self._push = landing.push
        landing.push = self._on_push
        self._populate(window, slots)

    def close(self) -> None:
        """Leave nothing behind."""
        landing.push = self._push
        for replica in self.replicas.values():
            replica.die()
        self.remote.mend()
        self.remote.release_all()
        self.store.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def _populate(self, window: int, slots: int) -> None:
        files: Files = {}
        for name in ("a", "b", "dir/c"):
            files[name.encode()] = (REGULAR, b"".join(b"%s line %d\n" % (name.encode(), n) for n in range(24)))
        self._move(self.store.write(files))
        url = self.remote.repo.url
        self.lane = Key("MergeLane", NAMESPACE, names.lane_name(url, "main"))
        spec = {"repository": {"url": url}, "targetBranch": "main", "window": window, "gateSlots": slots}
        lane = {"metadata": {"name": self.lane.name}, "spec": spec, "status": {"probedCredentials": "none"}}
        self.api.create("MergeLane", NAMESPACE, lane)
        gates = [{"name": name, "image": "x", "command": ["x"], "input": kind}
                 for name, kind in zip(GATES, ("Repository", "Tree"), strict=True)]  # fmt: skip
        self.api.create("GateProfile", "", {"metadata": {"name": "standard"}, "spec": {"gates": gates}})
        for name in ("one", "two"):
            self.replicas[name] = self._start(name)

    def _start(self, name: str) -> Replica:
        self._incarnations += 1
        holder = f"{name}.{self._incarnations}"
        return Replica(self.api, self.lane, self.root / f"mirrors-{name}", holder, lambda: self.clock)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _on_change(self, kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        if kind == "MergeJob":
            self.checker.on_job(old, new)

    # --- the branch and those who push to it

    def _move(self, commit: str) -> None:
        values = self.remote.values()
        self.remote.repo.git("update-ref", "-m", "push", TARGET, commit, env={
            "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x",
        })  # fmt: skip
        self.checker.external.add((values[-1][1] if values else "0" * 40, commit))

    def external(self, kind: str, job: int = 0) -> None:
        """Somebody else pushes: a file of their own, half of a pair, a job's source (merged), or a revert."""
        head = self.checker.head()
        files, parents = self.store.files(head), [head]
        jobs = [one["spec"]["sourceCommit"] for one in self.checker.jobs.values()]
        if kind == "pair" and b"pair-b" not in files:
            files[b"pair-a"] = (REGULAR, b"a\n")
        elif kind == "merge" and jobs:
            source = jobs[job % len(jobs)]
            if self.store.contains(head, source) or self.checker.red(source):
                return
            if self.store.contains(source, head):
                self._move(source)
                return
            parents.append(source)  # a merge that keeps our side: contained, and not there
        elif kind == "revert" and self.store.parents(head):
            before = self.store.files(self.store.parents(head)[0])
            changed = [path for path in files.keys() | before.keys() if files.get(path) != before.get(path)]
            for path in changed[:1]:
                if path in before:
                    files[path] = before[path]
                else:
                    del files[path]
        if len(parents) == 1 and (kind == "own" or files == self.store.files(head)):
            files[b"external-%d" % self._number()] = (REGULAR, b"external %d\n" % self._number())
        commit = self.store.write(files, *parents, message=f"External {self._number()}")
        if not self.checker.red(commit):
            self._move(commit)

    # --- jobs

    def submit(self, strategy: str, fork: int, edits: list[tuple[int, str, int]], *, twin: bool = False,
               trap: str = "") -> None:  # fmt: skip
        """A job whose source was forked `fork` heads ago, or stands on another job's source. Each edit is a commit:
        file, what is done to it, and where. `trap`: what makes its gates fail."""
        heads = self.checker.heads()
        sources = [job["spec"]["sourceCommit"] for job in self.checker.jobs.values()]
        if twin and sources:
            tip = sources[fork % len(sources)]
        else:
            stacked = fork >= 8 and bool(sources)
            tip = sources[-1] if stacked else heads[max(len(heads) - 1 - fork % 8, 0)]
            for file, what, place in edits:
                tip = self.store.write(self._edited(self.store.files(tip), file, what, place), tip,
                                       message=f"Edit {self._number()}")  # fmt: skip
            if trap:
                files = self.store.files(tip)
                files[trap.encode()] = (REGULAR, b"BAD\n" if trap == "broken" else trap.encode())
                tip = self.store.write(files, tip, message="Trap")
        number = self._number()
        ref = f"refs/heads/work/{number}"
        self.remote.repo.set(ref, tip)
        spec = {"repository": {"url": self.remote.repo.url}, "sourceRef": ref, "sourceCommit": tip,
                "targetBranch": "main", "strategy": strategy, "desiredState": "Run"}  # fmt: skip
        self.api.create("MergeJob", NAMESPACE, {"metadata": {"name": f"job-{number}"}, "spec": spec})

    def _edited(self, files: Files, file: int, what: str, place: int) -> Files:
        number = self._number()
        path = sorted(files)[file % len(files)]
        if what == "add" or b"line" not in files[path][1]:
            return {**files, b"new/%d" % number: (REGULAR, b"".join(b"%d-%d\n" % (number, n) for n in range(4)))}
        if what == "delete" and len(files) > 2:
            return {name: entry for name, entry in files.items() if name != path}
        mode, text = files[path]
        lines = text.splitlines(keepends=True)
        at = place % len(lines)
        fresh = b"line of %d\n" % number
        if what == "insert":
            lines.insert(at, fresh)
        elif what == "mode":
            mode ^= 0o111
        else:
            lines[at] = fresh
        entry: Entry = (mode, b"".join(lines))
        return {**files, path: entry}

    def cancel(self, number: int) -> None:
        """A person takes a job back."""
        waiting = [job for job in self.checker.jobs.values() if job["status"].get("state") not in ENDED]
        if waiting:
            name = waiting[number % len(waiting)]["metadata"]["name"]
            self.api.patch("MergeJob", NAMESPACE, name, {"spec": {"desiredState": "Cancelled"}}, status=False)

    def set_lane(self, **spec: Any) -> None:
        """A person changes the lane's policy."""
        self.api.patch("MergeLane", NAMESPACE, self.lane.name, {"spec": spec}, status=False)

    def judge(self, luck: Callable[[], str] = lambda: "") -> None:
        """Gate runs end: as they must, or as `luck` says (`Failed`, `Infra`)."""
        for run in self.api.listed("GateRun"):
            if (run.get("status") or {}).get("verdict"):
                continue
            spec = run["spec"]
            verdict = "Failed" if self.checker.red(spec["commit"]) else luck() or "Passed"
            gate = spec["gate"]
            self.checker.verdicts.append(
                Verdict(gate["name"], gate["input"] == "Tree", spec["commit"], spec["tree"],
                        spec.get("baseCommit", ""), verdict)
            )  # fmt: skip
            ended = f"2026-01-01T00:{int(self.clock / 60) % 60:02}:{int(self.clock) % 60:02}Z"
            status = {"verdict": verdict, "endTime": ended}
            self.api.patch("GateRun", NAMESPACE, run["metadata"]["name"], {"status": status}, status=True)

    # --- replicas

    def step(self, name: str, steps: int, *, news: bool = True) -> None:
        """A replica goes on, by default with everything that the API server has told."""
        replica = self.replicas[name]
        for _ in range(steps):
            if news:
                replica.watch()
            self.clock += 0.1
            self._busy = name
            try:
                replica.step()
            except Died:
                self.crash(name)
                return
            finally:
                self._busy = ""

    def work(self, name: str, *, news: bool = True, most: int = 80) -> None:
        """A replica ends the round that it is in, or does a whole one."""
        for _ in range(most):
            self.step(name, 1, news=news)
            if self.replicas[name].idle:
                break

    def lead(self, name: str, *, alone: bool) -> None:
        """A replica gets the Lease; unless `alone`, the other one doesn't know yet."""
        other = self.replicas["two" if name == "one" else "one"]
        other.leads = other.leads and not alone
        self.replicas[name].lead()

    def crash(self, name: str) -> None:
        """SIGKILL, and the process starts again without its Lease."""
        self.replicas[name].die()
        self.replicas[name] = self._start(name)

    def _on_push(self, git: Git, *arguments: str, timeout: float = landing.PUSH_TIMEOUT) -> PushReport:
        """Every push of the lane comes by here; the next one that lands meets its fate."""
        fate = self.fate
        if "--atomic" not in arguments or not fate:
            return self._push(git, *arguments, timeout=timeout)
        self.fate = ""
        self.checker.seen[fate] += 1
        if fate.startswith("cut"):
            self.remote.cut(fate.removeprefix("cut "))
        elif fate == "die before":
            raise Died
        elif fate.startswith("late"):
            refused = self.remote.send_and_kill(git, arguments)
            if fate == "late, and die":
                raise Died
            return refused or PushReport(-9, {}, "no end after 120 s")
        elif fate == "overtaken":
            self._overtake()
        elif fate == "raced":
            self.external("own")
        elif fate == "cancelled":
            self.cancel(self._number())
        report = self._push(git, *arguments, timeout=timeout)
        self.remote.mend()
        if fate == "die after":
            raise Died
        return report

    def _overtake(self) -> None:
        """The push is ready to go, and this process stands still while the other one works."""
        busy = self._busy
        other = "two" if busy == "one" else "one"
        self.replicas[other].lead()
        self.step(other, self.overtake)
        self._busy = busy

    # --- the end

    def settle(self) -> None:
        """Peace: what still travels arrives at some time, one replica goes on alone, and all must end."""
        self.fate = ""
        self.remote.mend()
        self.crash("one")
        survivor = self.replicas["two"]
        survivor.lead()
        for number in range(PEACE):
            if survivor.idle:
                self.judge()
                self.clock += 20
                if all(job["status"].get("state") in ENDED for job in self.checker.jobs.values()):
                    break
            if number == 25:
                self.remote.release_all()
            self.step("two", 1)
        self.remote.release_all()
        self.checker.check_end()


EDITS = ("edit", "edit", "edit", "insert", "add", "add", "delete", "mode")
TRAPS = ("", "", "", "", "", "broken", "pair-a", "pair-b")
VERDICTS = ("", "", "", "", "", "", "Failed", "Infra")
PUSHES = ("own", "own", "pair", "merge", "revert")


def wander(world: World, rng: random.Random, steps: int, fates: tuple[str, ...] = FATES) -> None:
    """A random walk: everything a test may do, more of what matters; `fates` are those that pushes may meet."""
    for _ in range(3):
        _submit(world, rng)
    world.lead("one", alone=True)
    for _ in range(steps):
        if not world.fate and rng.random() < 0.25:
            world.fate, world.overtake = rng.choice(fates), rng.randrange(1, 60)
        if world.remote.held and rng.random() < 0.3:
            world.cancel(rng.randrange(6))
        if world.remote.held and rng.random() < 0.2:
            world.remote.release(rng.randrange(world.remote.held))
        _wander_once(world, rng, rng.choice(("one", "two")))
        world.checker.check()


def _submit(world: World, rng: random.Random) -> None:
    edits = [(rng.randrange(6), rng.choice(EDITS), rng.randrange(24)) for _ in range(rng.randrange(1, 4))]
    trap = rng.choice(TRAPS)
    world.submit(rng.choice(STRATEGIES), rng.randrange(10), edits, twin=rng.random() < 0.1, trap=trap)


def _wander_once(world: World, rng: random.Random, name: str) -> None:
    chance = rng.random()
    leading = [one for one, replica in world.replicas.items() if replica.leads]
    if chance < 0.15:
        world.step(name, rng.randrange(1, 25), news=rng.random() < 0.8)
    elif chance < 0.65:
        world.judge(lambda: rng.choice(VERDICTS))
        world.work(rng.choice(leading or [name]), news=rng.random() < 0.8)
    elif chance < 0.75:
        _submit(world, rng)
    elif chance < 0.8:
        world.external(rng.choice(PUSHES), rng.randrange(6))
    elif chance < 0.86:
        world.cancel(rng.randrange(6))
    elif chance < 0.96:
        world.lead(name, alone=rng.random() < 0.7)
    else:
        world.crash(name)
