"""The base's ignore rules, as git itself understands them."""

from __future__ import annotations

from pathlib import Path

from tests.support.attempt import Bench, seed
from tests.support.git import git
from tests.support.git_http import TOKEN, USER, git_server

RULES: dict[str, str | bytes] = {
    ".gitignore": "*.log\n!keep.log\n/build/\ndocs/*.tmp\n**/generated/\n# comment\n\\#hash\n  spaced  \n"
    "name[0-9]\ntrail/**\nonly-dir/\n!__pycache__/wanted.pyc\n",
    "sub/.gitignore": "*.o\n!special.log\n/here\n",
    "sub/tracked.log": "tracked though ignored\n",
    "README.md": "x\n",
}
WRITTEN = (
    "a.log", "keep.log", "build/out", "deep/build/out", "docs/x.tmp", "docs/more/x.tmp", "x/generated/y", "#hash",
    "name5", "namex", "trail/a", "trail/b/c", "only-dir/f", "deep/only-dir", "sub/x.o", "sub/special.log",
    "sub/other.log",
    "sub/here", "sub/deep/here", "sub/deep/y.o", "new/.gitignore", "new/z.log", "kept/file", ":colon", "*.md", "-n",
)  # fmt: skip


def test_the_published_files_are_those_that_git_add_would_take(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        seed(server, "project", RULES)
        bench = Bench(tmp_path / "pod", server)
        bench.prepare()
        clone = tmp_path / "clone"
        url = server.url("project").replace("//", f"//{USER}:{TOKEN}@")
        git("clone", "--quiet", url, str(clone))
        for root in (bench.workspace, clone):
            for name in WRITTEN:
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("new\n")
            (root / "sub/tracked.log").write_text("changed\n")
        git("add", "--all", cwd=clone)
        expected = set(git("ls-files", cwd=clone).splitlines())
        bench.exits(0)
        report = bench.publish()
        assert report.error == ""
        assert bench.files(report.commit).keys() == expected


def test_what_tools_leave_behind_is_ignored_unless_the_base_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        seed(server, "project", {".gitignore": "!.venv/\n", "README.md": "x\n"})
        bench = Bench(tmp_path / "pod", server)
        bench.prepare()
        for name in ("src/__pycache__/a.pyc", ".pytest_cache/v", "node_modules/x/y.js", ".aider.chat.history.md",
                     ".coverage", ".venv/lib", "src/a.py"):  # fmt: skip
            bench.write(name, "x\n")
        bench.exits(0)
        report = bench.publish()
        assert bench.files(report.commit).keys() == {".gitignore", "README.md", ".venv/lib", "src/a.py"}


def test_an_agents_own_ignore_file_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        seed(server, "project", {"README.md": "x\n"})
        bench = Bench(tmp_path / "pod", server)
        bench.prepare()
        bench.write(".gitignore", "*\n")
        bench.write("src/.gitignore", "*\n")
        bench.write("src/a.py", "x\n")
        bench.exits(0)
        report = bench.publish()
        assert bench.files(report.commit).keys() == {"README.md", ".gitignore", "src/.gitignore", "src/a.py"}
