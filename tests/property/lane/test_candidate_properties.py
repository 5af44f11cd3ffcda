"""Candidates of random histories: another implementation agrees, no file is lost, the same commit comes anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.property.lane.content import REGULAR, SUBMODULE, SYMLINK, Entry, Files, MergeClash, Store, merge_files
from tests.support.repo import Repo
from tidegate.clients.git_objects import Objects
from tidegate.lane.candidate import FAST_FORWARD, MERGE_COMMIT, REBASE, SQUASH, Change, form
from tidegate.lane.decide.model import Conflict, Formed, Nothing, Outcome

Edit = tuple[str, int, int]  # what, file, line

ACTIONS = ("edit", "edit", "edit", "insert", "insert", "cut", "add", "delete", "mode", "link", "module", "undo")
REFUSING = ("-merge", "binary", "merge=custom")
NAMES = (b"a", b"dir/b", b"dir/deep/c")

commits = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.integers(0, 19)), min_size=1, max_size=4)
strategies = st.sampled_from((REBASE, SQUASH, MERGE_COMMIT, FAST_FORWARD))
bounded = settings(
    settings.get_profile(settings.get_current_profile_name()),
    max_examples=3000 if settings.get_current_profile_name() == "thorough" else 60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Bench:
    """Two bare repositories with the same commits; the second sees the first's objects, and writes its own."""

    store: Store
    here: Objects
    there: Objects
    number: int = 0

    def form(self, base: str, change: Change) -> Outcome:
        """The candidate, which must be the same in both."""
        made = form(self.here, base, change)
        assert made == form(self.there, base, change), "another commit elsewhere (I7)"
        return made

    def fresh(self) -> int:
        """A number that was never used."""
        self.number += 1
        return self.number

    def line(self) -> bytes:
        """A line that stands nowhere else."""
        return b"line %d of all lines\n" % self.fresh()

    def root(self, attributes: bytes = b"") -> str:
        """A first commit."""
        files: Files = {name: (REGULAR, b"".join(self.line() for _ in range(20))) for name in NAMES}
        files[b"link"] = (SYMLINK, b"dir/b")
        files[b"module"] = (SUBMODULE, b"1" * 40)
        if attributes:
            files[b".gitattributes"] = (REGULAR, attributes)
        return self.store.write(files)

    def grow(self, tip: str, edits: list[Edit]) -> str:
        """One commit for each edit."""
        for what, file, line in edits:
            parent = next(iter(self.store.parents(tip)), tip)
            files = self.store.files(parent) if what == "undo" else self.edited(self.store.files(tip), what, file, line)
            time = 1_700_000_000 + self.fresh()
            tip = self.store.write(files, tip, message=f"{what} {self.fresh()}", time=time)
        return tip

    def edited(self, files: Files, what: str, file: int, line: int) -> Files:
        """Files after one edit."""
        texts = sorted(path for path, entry in files.items() if b" of all lines" in entry[1])
        if what == "link":
            return {**files, b"link": (SYMLINK, b"to-%d" % self.fresh())}
        if what == "module":
            return {**files, b"module": (SUBMODULE, b"%040d" % self.fresh())}
        if what == "add" or not texts:
            text = b"".join(self.line() for _ in range(5))
            return {**files, b"new/%d/%d" % (file, self.fresh()): (REGULAR, text)}
        path = texts[file % len(texts)]
        if what == "delete":
            return {name: entry for name, entry in files.items() if name != path}
        return {**files, path: self.changed(files[path], what, line)}

    def changed(self, entry: Entry, what: str, line: int) -> Entry:
        """A file with one line or its mode changed."""
        mode, text = entry
        lines = text.splitlines(keepends=True)
        at = line % len(lines)
        if what == "mode":
            return mode ^ 0o111, text
        if what == "insert":
            lines.insert(at, self.line())
        elif what == "cut" and len(lines) > 2:
            del lines[at]
        else:
            lines[at] = self.line()
        return mode, b"".join(lines)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root: Path = tmp_path_factory.mktemp("candidates")
    one, two = Repo(root / "one.git"), Repo(root / "two.git")
    (two.directory / "objects" / "info").mkdir(exist_ok=True)
    (two.directory / "objects" / "info" / "alternates").write_text(f"{one.directory}/objects\n")
    store = Store(one.directory)
    with Objects(one.client()) as here, Objects(two.client()) as there:
        yield Bench(store, here, there)
    store.close()


def expected(store: Store, base: str, source: str, refused: bytes = b"") -> Files | None:
    """The merge by other means, None for a clash. `refused`: a path that both sides may not change."""
    (common,) = store.merge_bases(base, source)
    old, ours, theirs = store.files(common), store.files(base), store.files(source)
    sides = [files.get(refused) for files in (old, ours, theirs)]
    if refused and len(set(sides)) == 3:
        return None
    try:
        return merge_files(old, ours, theirs)
    except MergeClash:
        return None


def agree(store: Store, base: str, source: str, made: Outcome, refused: bytes = b"") -> None:
    """What was made is what the other implementation says."""
    merged = expected(store, base, source, refused)
    if isinstance(made, Conflict):
        assert merged is None, f"a conflict in {made.files} that isn't one"
    elif isinstance(made, Nothing):
        assert made.contained or merged == store.files(base)
    else:
        assert merged is not None, "merged what clashes"
        assert store.files(made.commit) == merged
        assert store.tree(made.commit) == made.tree
        assert made.tree != store.tree(base)
    event(type(made).__name__)


@bounded
@given(ours=commits, theirs=commits, strategy=strategies, stale=st.booleans())
def test_a_candidate_is_the_three_way_merge(bench: Bench, ours: list[Edit], theirs: list[Edit], strategy: str,
                                            stale: bool) -> None:  # fmt: skip
    root = bench.root()
    source = bench.grow(root, theirs)
    base = bench.grow(root, ours) if stale else root
    made = bench.form(base, Change(source, strategy))
    agree(bench.store, base, source, made)
    if isinstance(made, Formed):
        shape(bench.store, base, source, made, len(theirs))


def shape(store: Store, base: str, source: str, made: Formed, commits: int) -> None:
    """History is what the strategy says; no commit on it is empty."""
    parents = store.parents(made.commit)
    if made.strategy == FAST_FORWARD:
        assert made.commit == source
    elif made.strategy == MERGE_COMMIT:
        assert parents == (base, source)
    elif made.strategy == SQUASH:
        assert parents == (base,)
    else:
        length, at = 0, made.commit
        while at != base:
            (before,) = store.parents(at)
            assert store.tree(at) != store.tree(before), "an empty commit"
            length, at = length + 1, before
        assert 1 <= length <= commits


@bounded
@given(
    changes=st.lists(st.tuples(commits, strategies, st.integers(0, 3)), min_size=2, max_size=4),
)
def test_no_change_of_a_group_takes_back_another(bench: Bench, changes: list[tuple[list[Edit], str, int]]) -> None:
    """Cumulative candidates, forked from anywhere behind: what one brought is there until another touches it."""
    heads = [bench.root()]
    brought: dict[bytes, Entry] = {}
    for edits, strategy, behind in changes:
        base = heads[-1]
        fork = heads[max(len(heads) - 1 - behind, 0)]
        source = bench.grow(fork, edits)
        made = bench.form(base, Change(source, strategy))
        agree(bench.store, base, source, made)
        if not isinstance(made, Formed):
            continue
        old, new, after = (bench.store.files(commit) for commit in (fork, source, made.commit))
        touched = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        for path, entry in brought.items():
            assert path in touched or after.get(path) == entry, f"{path!r} was taken back"
        brought = {path: entry for path, entry in after.items() if path in brought or path in touched}
        heads.append(made.commit)
    event(f"landed {len(heads) - 1}")


@bounded
@given(ours=commits, theirs=commits, strategy=strategies, rule=st.sampled_from((*REFUSING, "text", "-text")))
def test_attributes_of_the_base_decide(bench: Bench, ours: list[Edit], theirs: list[Edit], strategy: str,
                                       rule: str) -> None:  # fmt: skip
    root = bench.root(attributes=b"/a %s\n" % rule.encode())
    base, source = bench.grow(root, [*ours, ("edit", 0, 2)]), bench.grow(root, [*theirs, ("edit", 0, 17)])
    made = bench.form(base, Change(source, strategy))
    agree(bench.store, base, source, made, b"a" if rule in REFUSING else b"")


@bounded
@given(edits=commits, strategy=strategies)
def test_what_landed_lands_no_more(bench: Bench, edits: list[Edit], strategy: str) -> None:
    root = bench.root()
    source = bench.grow(root, edits)
    base = bench.grow(root, [("add", 0, 0)])
    made = bench.form(base, Change(source, strategy))
    if isinstance(made, Formed):
        assert isinstance(bench.form(made.commit, Change(source, strategy)), Nothing)
