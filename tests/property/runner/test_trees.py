"""Trees and symlinks of random shape, checked against git and against the file system itself."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.clients.git import Git, init_bare
from tidegate.runner.objects import ObjectStore, object_id, write_tree
from tidegate.runner.paths import EXECUTABLE, FILE, LINK, link_refusal

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "d", "..", "..", ".", ""]), min_size=1, max_size=6).map("/".join)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(PATHS, TARGETS, min_size=1, max_size=6), st.lists(PATHS, max_size=4))
def test_no_accepted_symlink_leads_out_of_the_tree(links: dict[str, str], directories: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(os.path.realpath(name)) / "x/y/tree"
        root.mkdir(parents=True)
        made: dict[bytes, bytes] = {}
        for path, target in sorted(links.items(), key=lambda item: item[0].count("/")):
            above = {"/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)}
            if target and not above & links.keys():
                with suppress(FileExistsError, NotADirectoryError):
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).symlink_to(target)
                    made[path.encode()] = target.encode()
        for directory in directories:
            with suppress(OSError):
                (root / directory).mkdir(parents=True)
        for link in made:
            if not link_refusal(link, made):
                end = os.path.realpath(root / link.decode())
                assert end == str(root) or end.startswith(f"{root}/"), (link, made)


ODD = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=6)
PART = ODD.filter(lambda name: name not in (".", "..") and name.lower() != ".git").map(str.encode)


def _fits(paths: list[list[bytes]]) -> list[bytes]:
    """The paths of which none is a directory of another."""
    joined = sorted({b"/".join(parts) for parts in paths})
    return [path for path in joined if not any(other.startswith(path + b"/") for other in joined)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(PART, min_size=1, max_size=3), min_size=1, max_size=15).map(_fits),
    st.sampled_from([FILE, EXECUTABLE, LINK]),
    st.binary(max_size=50),
)
def test_trees_are_those_that_git_writes(paths: list[bytes], mode: int, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        init_bare(directory)
        git = Git(directory)
        store = ObjectStore(directory / "objects")
        blob = store.write("blob", content)
        assert blob == object_id("blob", content) == git.run("hash-object", "--stdin", input=content).text
        tree = write_tree(store, dict.fromkeys(paths, (mode, blob)))
        rows = b"".join(b"%o %s 0\t%s\0" % (mode, blob.encode(), path) for path in paths)
        env = {"PATH": os.environ["PATH"], "GIT_INDEX_FILE": str(directory / "index")}
        words = ["git", "-C", name, "-c", "core.protectNTFS=false", "update-index", "-z", "--index-info"]
        subprocess.run(words, input=rows, env=env, check=True)
        written = subprocess.run(["git", "-C", name, "write-tree"], env=env, capture_output=True, check=True)
        assert tree == written.stdout.decode().strip()
        assert git.run("fsck", "--strict", ok=None).code == 0
