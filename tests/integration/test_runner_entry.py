"""The entry script as PID 1 of a process namespace of its own, in every shell that this machine has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.api.wire import AgentInput
from tidegate.runner.entry import entry_script, prompt_file, settings
from tidegate.runner.handoff import Exit, parse_exit

SHELLS = [shell for shell in ("dash", "busybox", "bash") if shutil.which(shell)]
GIVEN = AgentInput(url="file:///x", target_branch="main", task_uid="u", task="t", attempt=1, stop_seconds=3)


def _can_unshare() -> bool:
    return (
        subprocess.run(["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"], check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="this machine allows no process namespaces")


class Agent:
    """A directory that stands for the container's volumes, and the entry script running on it."""

    def __init__(self, root: Path, shell: str) -> None:
        self.root = root
        self.shell = [shutil.which(shell) or "", *(["sh"] if shell == "busybox" else [])]
        for name in ("workspace", "output", "tools", "input"):
            (root / name).mkdir()
        self.path = os.environ["PATH"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, given: AgentInput, ready: str = "") -> None:
        (self.root / "tools/entry").write_text(entry_script())
        text, mode = prompt_file(given)
        (self.root / "input/prompt").write_text(text)
        (self.root / "input/prompt").chmod(mode)
        (self.root / "token").write_text("the-token")
        paths = {name: str(self.root / name) for name in ("workspace", "output", "token")}
        (self.root / "tools/settings").write_text(
            settings(given, prompt=str(self.root / "input/prompt"), ready=ready, **paths)
        )
        self.process = subprocess.Popen(
            [shutil.which("unshare") or "", "--user", "--map-root-user", "--pid", "--fork",
             "--mount-proc", "--kill-child=SIGKILL",
             *self.shell, str(self.root / "tools/entry")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": self.path, "GREETING": "good day"},
        )  # fmt: skip

    def script(self, text: str, **changes: object) -> None:
        self.start(replace(GIVEN, engine="Script", prompt=text, **changes))  # type: ignore[arg-type]

    def terminate(self) -> None:
        """SIGTERM to PID 1 of the namespace, as the kubelet sends it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)

    def end(self, timeout: float = 20) -> tuple[int, str]:
        assert self.process is not None
        out, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, out.decode()

    def exit_record(self) -> Exit | None:
        path = self.root / "output/exit"
        return parse_exit(path.read_bytes()) if path.exists() else None

    def wait_for(self, name: str) -> Path:
        path = self.root / "workspace" / name
        until = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < until, f"{name} never came"
            time.sleep(0.02)
        return path


@pytest.fixture(params=SHELLS)
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path, request.param)
    yield agent
    if agent.process is not None:
        agent.process.kill()
        agent.process.communicate()


def test_runs_the_prompt_as_a_script_and_keeps_its_log(agent: Agent) -> None:
    agent.script("pwd; echo out; echo err >&2; echo $OPENAI_API_KEY; exit 7")
    code, out = agent.end()
    assert code == 7
    assert out == f"{agent.root}/workspace\nout\nerr\nthe-token\n"
    assert (agent.root / "output/log").read_text() == out
    assert agent.exit_record() == Exit(7, "exited")


def test_the_first_line_picks_the_interpreter(agent: Agent) -> None:
    agent.script(f"#!{shutil.which('python3')}\nprint(sum(range(4)))")
    assert agent.end() == (0, "6\n")


def test_runs_a_command_with_its_arguments_as_they_are(agent: Agent) -> None:
    words = ["printf", "%s|", "a b", "it's", '"$HOME"', "$(GREETING)", "$$(GREETING)", "$(UNSET)", "-$(GREETING)-", ""]
    agent.start(replace(GIVEN, command=words))
    code, out = agent.end()
    assert code == 0
    assert out == 'a b|it\'s|"$HOME"|good day|$(GREETING)|$(UNSET)|-good day-||'


def test_a_command_that_is_not_there_is_127(agent: Agent) -> None:
    agent.start(replace(GIVEN, command=["no-such-engine"]))
    code, out = agent.end()
    assert code == 127
    assert "no-such-engine" in out
    assert agent.exit_record() == Exit(127, "exited")


def test_ends_the_engine_at_its_timeout(agent: Agent) -> None:
    agent.script("echo begun; sleep 60; echo never", timeout_seconds=1)
    started = time.monotonic()
    code, out = agent.end()
    assert (code, out) == (124, "begun\n")
    assert time.monotonic() - started < 4
    assert agent.exit_record() == Exit(124, "timeout")


def test_sigterm_reaches_the_engine_which_may_tidy_up(agent: Agent) -> None:
    agent.script("trap 'echo tidy > tidied; exit 0' TERM; touch begun; while :; do sleep 0.1; done", stop_seconds=15)
    agent.wait_for("begun")
    agent.terminate()
    code, _ = agent.end()
    assert code == 143
    assert (agent.root / "workspace/tidied").read_text() == "tidy\n"
    assert agent.exit_record() == Exit(143, "stopped")


def test_processes_that_ignore_sigterm_and_leave_the_session_are_killed_in_time(agent: Agent) -> None:
    stubborn = 'trap "" TERM HUP INT; touch {0}; while :; do echo x >> {0}; sleep 0.05; done'
    agent.script(
        "trap '' TERM\n"
        f"setsid sh -c '(setsid sh -c '\"'\"'{stubborn.format('daemon')}'\"'\"' >/dev/null 2>&1 &) &'\n"
        f"sh -c '{stubborn.format('child')}' &\n"
        "while :; do sleep 1; done"
    )  # fmt: skip
    daemon, child = agent.wait_for("daemon"), agent.wait_for("child")
    started = time.monotonic()
    agent.terminate()
    code, _ = agent.end()
    assert code == 143
    assert time.monotonic() - started < 3.5, "longer than stopSeconds"
    sizes = daemon.stat().st_size, child.stat().st_size
    time.sleep(0.3)
    assert (daemon.stat().st_size, child.stat().st_size) == sizes, "something still runs"
    assert agent.exit_record() == Exit(143, "stopped")


def test_what_the_engine_leaves_behind_ends_with_it(agent: Agent) -> None:
    agent.script("(setsid sh -c 'while :; do echo x >> left; sleep 0.05; done' >/dev/null 2>&1 &); sleep 0.3; exit 0")
    code, _ = agent.end()
    size = (agent.root / "workspace/left").stat().st_size
    time.sleep(0.3)
    assert code == 0
    assert (agent.root / "workspace/left").stat().st_size == size


def test_a_stopped_process_is_ended_too(agent: Agent) -> None:
    agent.script("sleep 100 & kill -STOP $!; exit 3")
    started = time.monotonic()
    assert agent.end()[0] == 3
    assert time.monotonic() - started < 3


def test_the_log_stays_bounded_and_holds_the_end(agent: Agent) -> None:
    agent.script(
        "i=0; while [ $i -lt 24 ]; do dd if=/dev/zero bs=1048576 count=1 2>/dev/null; i=$((i+1)); done; echo end"
    )
    assert agent.end(60)[0] == 0
    files = sorted((agent.root / "output").glob("log*"))
    assert sum(file.stat().st_size for file in files) <= 8 * 1024 * 1024
    assert (agent.root / "output/log").read_bytes().endswith(b"end\n")


def test_fifos_in_the_output_directory_cannot_hold_the_end_up(agent: Agent) -> None:
    agent.script(f"rm -f {agent.root}/output/exit; mkfifo {agent.root}/output/exit; echo done")
    assert agent.end()[0] == 0
    assert agent.exit_record() == Exit(0, "exited")


def test_an_engine_may_not_stop_pid_1(agent: Agent) -> None:
    agent.script("kill -STOP 1; kill -KILL 1; echo alive; exit 5")
    code, out = agent.end()
    assert (code, out) == (5, "alive\n")


def test_the_engine_waits_for_the_publisher(agent: Agent) -> None:
    ready = agent.root / "ready"
    agent.start(replace(GIVEN, engine="Script", prompt="touch begun"), ready=str(ready))
    time.sleep(0.7)
    assert not (agent.root / "workspace/begun").exists()
    ready.touch()
    assert agent.end()[0] == 0
    assert (agent.root / "workspace/begun").exists()


def test_a_stop_while_it_waits_ends_it(agent: Agent) -> None:
    agent.start(replace(GIVEN, engine="Script", prompt="touch begun"), ready=str(agent.root / "ready"))
    time.sleep(0.5)
    agent.terminate()
    assert agent.end()[0] == 143
    assert not (agent.root / "workspace/begun").exists()


def test_an_image_with_sh_sleep_and_cat_alone_will_do(agent: Agent) -> None:
    tools = agent.root / "bin"
    tools.mkdir()
    for tool in ("sh", "sleep", "cat"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    agent.path = str(tools)
    agent.script("echo hello; exit 4")
    code, out = agent.end()
    assert (code, out) == (4, "hello\n")
