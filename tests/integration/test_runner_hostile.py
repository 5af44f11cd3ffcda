"""What an agent may leave in its workspace to make us run its code, read what isn't its own, or publish secrets.

Every program that must not run is a canary: it writes a file when it does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attempt import UID, Bench, seed
from tests.support.git_http import TOKEN, GitServer, git_server
from tidegate import names
from tidegate.runner import walk

OUTSIDE = "the-content-of-a-file-outside"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, server: GitServer) -> Bench:
    files: dict[str, str | bytes] = {"README.md": "x\n", "src/a.py": "a = 1\n", "src/b.py": "b = 1\n"}
    seed(server, "project", files)
    bench = Bench(tmp_path / "pod", server)
    assert bench.prepare().error == ""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text(OUTSIDE)
    return bench


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A program that must not run."""
    program, sign = tmp_path / "canary", tmp_path / "it-ran"
    program.write_text(f"#!/bin/sh\necho $0 $* >> {sign}\ncat\n")
    program.chmod(0o755)
    yield program
    assert not sign.exists(), f"run: {sign.read_text()}"


def refused(report: object) -> dict[str, str]:
    return {row["path"]: row["why"] for row in report.refused}  # type: ignore[attr-defined]


def everything_pushed(bench: Bench) -> str:
    """All blobs at the remote as one text."""
    words = ["git", "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    done = subprocess.run(words, cwd=bench.server.root / "project.git", capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def own_git(bench: Bench, *args: str, cwd: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *args], cwd=cwd, env=env, check=True, capture_output=True)


def test_a_hostile_git_directory_runs_nothing(bench: Bench, canary: Path) -> None:
    top = bench.workspace
    own_git(bench, "init", "-q", cwd=top)
    for key in ("core.fsmonitor", "core.sshCommand", "core.editor", "core.pager", "diff.external", "filter.evil.clean",
                "filter.evil.smudge", "filter.evil.process", "credential.helper", "core.hooksPath", "core.askPass",
                "uploadpack.packObjectsHook", "gpg.program", "merge.evil.driver", "diff.evil.textconv"):  # fmt: skip
        own_git(bench, "config", key, str(canary), cwd=top)
    own_git(bench, "config", "core.worktree", "/", cwd=top)
    for hook in ("pre-commit", "pre-push", "post-index-change", "reference-transaction", "post-checkout"):
        (top / ".git/hooks").mkdir(exist_ok=True)
        (top / f".git/hooks/{hook}").write_text(f"#!/bin/sh\n{canary}\n")
        (top / f".git/hooks/{hook}").chmod(0o755)
    bench.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    bench.write("new.py", "new = 1\n")
    bench.exits(0)
    report = bench.publish()
    assert report.error == ""
    files = bench.files(report.commit)
    assert "new.py" in files
    assert ".gitattributes" in files
    assert not [path for path in files if ".git/" in path]


def test_nested_repositories_with_filters_and_fsmonitor_run_nothing_and_their_files_are_kept(
    bench: Bench, canary: Path
) -> None:
    nested = bench.workspace / "vendor/lib"
    nested.mkdir(parents=True)
    own_git(bench, "init", "-q", cwd=nested)
    (nested / "code.py").write_text("code = 1\n")
    (nested / ".gitattributes").write_text("*.py filter=evil\n")
    own_git(bench, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x", cwd=nested)
    own_git(bench, "config", "filter.evil.clean", str(canary), cwd=nested)
    own_git(bench, "config", "core.fsmonitor", str(canary), cwd=nested)
    linked = bench.workspace / "linked"
    linked.mkdir()
    (linked / ".git").write_text(f"gitdir: {nested}/.git\n")
    (linked / "more.py").write_text("more = 1\n")
    bench.exits(0)
    report = bench.publish()
    files = bench.files(report.commit)
    assert {"vendor/lib/code.py", "vendor/lib/.gitattributes", "linked/more.py"} <= files.keys()
    assert "160000" not in files.values(), "a gitlink came of a nested repository"
    assert not [path for path in files if "/.git/" in path or path.endswith("/.git")]


def test_symlinks_are_kept_as_they_are_and_never_followed(bench: Bench, tmp_path: Path) -> None:
    top = bench.workspace
    links = {
        "inside": "src/a.py", "deep/up": "../src/b.py", "dangling": "nowhere",
        "absolute": str(tmp_path / "outside/secret.txt"), "climbing": "../../outside/secret.txt",
        "directory": str(tmp_path / "outside"), "hop": "s2/../../x", "deep/s": "..", "into": ".git/config",
        "ring": "ring",
    }  # fmt: skip
    for name, target in links.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).symlink_to(target)
    (top / "s2").symlink_to("src")
    (top / "through").symlink_to("deep/s/../x")
    bench.exits(0)
    report = bench.publish()
    files = bench.files(report.commit)
    assert {path for path, mode in files.items() if mode == "120000"} == {
        "inside",
        "deep/up",
        "dangling",
        "deep/s",
        "s2",
    }
    assert bench.read(report.commit, "inside") == "src/a.py"
    assert refused(report).keys() == {"absolute", "climbing", "directory", "hop", "into", "ring", "through"}
    assert OUTSIDE not in everything_pushed(bench)


def test_a_tracked_directory_replaced_by_a_symlink_is_not_read_through(bench: Bench, tmp_path: Path) -> None:
    top = bench.workspace
    (tmp_path / "outside/a.py").write_text(OUTSIDE)
    for name in ("a.py", "b.py"):
        (top / "src" / name).unlink()
    (top / "src").rmdir()
    (top / "src").symlink_to(tmp_path / "outside")
    bench.exits(0)
    report = bench.publish()
    assert OUTSIDE not in everything_pushed(bench)
    assert "src" in refused(report)


def test_a_directory_swapped_for_a_symlink_while_we_walk_leads_nowhere(bench: Bench, tmp_path: Path) -> None:
    for name in ("a.py", "deep/b.py", "deep/er/c.py"):
        path = tmp_path / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(OUTSIDE)
    real = bench.workspace / "real"
    for number in range(200):
        bench.write(f"real/deep/er/{number}.py", "x = 1\n")
        bench.write(f"real/{number}.py", "x = 1\n")
    bench.write("real/a.py", "x = 1\n")
    ended = threading.Event()
    swaps = [0]

    def swap() -> None:
        aside, link = bench.root / "aside", bench.root / "link"
        link.symlink_to(tmp_path / "outside")
        while not ended.is_set():
            real.rename(aside)
            link.rename(real)
            swaps[0] += 1
            real.rename(link)
            aside.rename(real)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        bench.change(checkpoint_seconds=1)
        process = bench.start_publisher()
        time.sleep(4)
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        ended.set()
        thread.join()
    assert process.returncode == 0, err
    assert swaps[0] > 1000
    assert OUTSIDE not in everything_pushed(bench)
    assert str(tmp_path / "outside") not in everything_pushed(bench)


def test_every_step_of_the_walk_refuses_a_symlink(bench: Bench, tmp_path: Path) -> None:
    (bench.workspace / "l").symlink_to(tmp_path / "outside")
    root = walk.open_root(bench.workspace)
    with pytest.raises(OSError), walk.open_directory(root, b"l"):
        pass
    os.close(root)


def test_fifos_sockets_and_unreadable_files_stop_nothing(bench: Bench) -> None:
    top = bench.workspace
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        with contextlib.chdir(top):
            server.bind("sock")
        bench.write("good.py", "x = 1\n")
        bench.exits(0)
        started = time.monotonic()
        report = bench.publish()
    assert time.monotonic() - started < 10
    assert refused(report) == {"fifo": "a FIFO", "sock": "a socket"}
    assert report.ref == names.task_ref(UID), "nothing of the work is lost with a FIFO"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named_and_the_bases_version_kept(bench: Bench) -> None:
    (bench.workspace / "src/a.py").chmod(0)
    bench.write("closed/x.py", "x\n")
    (bench.workspace / "closed").chmod(0)
    bench.write("good.py", "x = 1\n")
    bench.exits(0)
    words = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"] if os.geteuid() == 0 else []
    if words:
        subprocess.run(["chown", "-R", "1000:1000", str(bench.root)], check=True)
        for parent in list(bench.root.parents)[:-2]:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    process = bench.start_publisher(prefix=words)
    time.sleep(1.5)
    process.terminate()
    _, err = process.communicate(timeout=30)
    report = bench.report()
    assert report.error == "", err
    assert "Permission denied" in refused(report)["src/a.py"]
    assert "Permission denied" in refused(report)["closed"]
    files = bench.files(report.commit)
    assert {"src/a.py", "good.py"} <= files.keys()
    assert bench.read(report.commit, "src/a.py") == "a = 1"


def test_the_handoff_and_the_log_are_read_the_same_safe_way(bench: Bench, tmp_path: Path) -> None:
    bench.write("good.py", "x = 1\n")
    (tmp_path / "outside/handoff.json").write_text('{"status":"Complete","summary":"' + OUTSIDE + '"}')
    (bench.places.output / "handoff.json").symlink_to(tmp_path / "outside/handoff.json")
    (bench.places.output / "log").symlink_to(tmp_path / "outside/secret.txt")
    bench.exits(0)
    report = bench.publish()
    assert not report.handoff_valid
    assert OUTSIDE not in everything_pushed(bench)
    assert OUTSIDE not in report.dumps()


def test_fifos_as_handoff_exit_record_and_log_do_not_hold_us_up(bench: Bench) -> None:
    for name in ("handoff.json", "exit", "log"):
        os.mkfifo(bench.places.output / name)
    bench.write("good.py", "x = 1\n")
    started = time.monotonic()
    report = bench.publish()
    assert time.monotonic() - started < 10
    assert "not a regular file" in report.message
    assert report.ref == names.wip_ref(UID, 1)


def test_names_that_are_git_somewhere_and_case_twins_are_refused(bench: Bench) -> None:
    for name in (".GIT/config", ".git\u200c/config", "git~1/config", "sub/.Git", ".git./x", ".git::$INDEX_ALLOCATION/x",
                 "a\\.git\\config", "Readme.md", "SRC/c.py", "café", "cafe\u0301", ".gitmodules", ".GitModules",
                 "gitmod~1"):  # fmt: skip
        bench.write(name, "evil\n")
    bench.write("good.py", "x = 1\n")
    bench.exits(0)
    report = bench.publish()
    files = bench.files(report.commit)
    assert files.keys() == {"README.md", "src/a.py", "src/b.py", "good.py", "cafe\u0301"}
    assert len(refused(report)) == 13


def test_secrets_hold_back_the_file_and_the_merge_and_are_named_without_the_value(bench: Bench) -> None:
    aws, github = "AKIA" + "QWERTYUIOPASDFGH", "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    bench.write("config.py", f"# fine\nx = 1\nkey = '{aws}'\n")
    bench.write("good.py", "x = 1\n")
    bench.write("own.txt", f"the password is {TOKEN}\n")
    bench.write("utf16.txt", f"token {github}".encode("utf-16"))
    bench.write("src/a.py", "a = 1\nPASSWORD = 'kX9$vQ2!mZ7&bR4'  # nosecret gitleaks:allow\n")
    bench.hand_off(f'{{"status":"Complete","summary":"used {github}"}}')
    bench.exits(0, log=f"log in with {aws}\nand {TOKEN}\n")
    report = bench.publish()
    assert [(row["file"], row["line"], row["rule"]) for row in report.held_back] == [
        ("config.py", 3, "aws-access-key"), ("own.txt", 1, "own-credential"), ("src/a.py", 2, "assignment"),
        ("utf16.txt", 1, "github-token"),
    ]  # fmt: skip
    assert report.ref == names.wip_ref(UID, 1)
    assert bench.files(report.commit).keys() == {"README.md", "src/a.py", "src/b.py", "good.py"}
    assert bench.read(report.commit, "src/a.py") == "a = 1"
    told = report.dumps() + everything_pushed(bench)
    for value in (aws, github, TOKEN, "kX9$vQ2!mZ7&bR4"):
        assert value not in told


def test_a_secret_that_the_base_holds_already_is_not_new(tmp_path: Path, server: GitServer) -> None:
    key = "AKIA" + "QWERTYUIOPASDFGH"
    files: dict[str, str | bytes] = {
        "a.py": f"key = '{key}'\nx = 1\n", ".tidegate/allowed-secrets": "fixtures/**:aws-access-key\n",
    }  # fmt: skip
    seed(server, "project", files)
    bench = Bench(tmp_path / "pod", server)
    bench.prepare()
    bench.write("a.py", f"x = 2\nkey = '{key}'\n")
    bench.write("fixtures/k.txt", key)
    bench.write(".tidegate/allowed-secrets", "**\n")
    bench.write("b.py", f"key = '{key}'\n")
    bench.exits(0)
    report = bench.publish()
    assert [row["file"] for row in report.held_back] == ["b.py"], "an allow-list in the diff doesn't count"


def test_checkpoints_hold_secrets_back_too(bench: Bench) -> None:
    aws = "AKIA" + "QWERTYUIOPASDFGH"
    bench.write("config.py", f"key = '{aws}'\n")
    bench.write("good.py", "x = 1\n")
    bench.change(checkpoint_seconds=1)
    process = bench.start_publisher()
    try:
        until = time.monotonic() + 10
        while names.wip_ref(UID, 1) not in bench.refs():
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        process.kill()
        process.communicate()
    assert "good.py" in bench.files(bench.refs()[names.wip_ref(UID, 1)])
    assert aws not in everything_pushed(bench)


def test_too_many_files_are_cut_off_and_what_fits_is_kept_for_a_person(bench: Bench) -> None:
    bench.change(max_files=10)
    for number in range(30):
        bench.write(f"many/{number:02}.txt", f"{number}\n")
    bench.exits(0)
    report = bench.publish()
    assert "more than 10 files" in refused(report)["."]
    assert report.ref == names.wip_ref(UID, 1)
    assert report.files_changed == 10
    assert "src/a.py" in bench.files(report.commit)


def test_large_files_and_sparse_ones_are_refused_without_being_read(bench: Bench) -> None:
    with (bench.workspace / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    bench.write("big", b"\0" * (walk.MAX_FILE_BYTES + 1))
    bench.write("good.py", "x = 1\n")
    bench.exits(0)
    started = time.monotonic()
    report = bench.publish()
    assert time.monotonic() - started < 10
    assert refused(report) == {"big": "larger than 32 MiB", "sparse": "larger than 32 MiB"}
    assert "good.py" in bench.files(report.commit)


def test_a_large_file_of_the_base_stays_and_a_change_of_it_is_named(tmp_path: Path, server: GitServer) -> None:
    large = b"x" * (walk.MAX_FILE_BYTES + 5)
    seed(server, "project", {"same.bin": large, "other.bin": large + b"y"})
    bench = Bench(tmp_path / "pod", server)
    bench.prepare()
    bench.write("other.bin", large + b"z")
    bench.write("good.py", "x = 1\n")
    bench.exits(0)
    report = bench.publish()
    assert refused(report) == {"other.bin": "larger than 32 MiB"}
    assert report.files_changed == 1


def test_names_that_mean_something_to_git_or_a_terminal(bench: Bench) -> None:
    for name in (
        ":(top)x",
        ":!x",
        "-rf",
        "new\nline",
        "tab\there",
        '"quoted"',
        "*.py",
        "[a]",
        "\x1b[31mred",
        "bidi\u202eexe",
    ):
        bench.write(name, "x\n")
    (Path(os.fsdecode(os.fsencode(bench.workspace) + b"/\xff\xfe"))).write_text("x\n")
    bench.exits(0)
    report = bench.publish()
    assert report.error == ""
    assert report.files_changed == 11
    assert "\x1b" not in report.dumps()


def test_a_very_deep_tree_ends(bench: Bench) -> None:
    with contextlib.chdir(bench.workspace):
        for _ in range(300):
            Path("d").mkdir()
            os.chdir("d")
    bench.write("good.py", "x = 1\n")
    bench.exits(0)
    report = bench.publish()
    assert "nested deeper" in next(iter(refused(report).values()))
    assert "good.py" in bench.files(report.commit)


def test_ten_thousand_files_are_published_in_seconds(bench: Bench) -> None:
    for number in range(10_000):
        bench.write(f"d{number % 100}/f{number}.py", f"value = {number}\n")
    bench.change(publish_seconds=110)
    bench.exits(0)
    started = time.monotonic()
    report = bench.publish()
    assert report.files_changed == 10_000
    assert report.ref == names.task_ref(UID)
    assert time.monotonic() - started < 60
