"""What the local cluster does to a machine, judged on processes and directories of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dev.cluster import host, owner, processes
from dev.cluster.build import Program
from dev.cluster.errors import ClusterError
from dev.cluster.settings import Network


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State, run and log directories below a temporary one."""
    for module in (processes, host, owner):
        for name in ("STATE", "RUN", "LOGS"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    monkeypatch.delenv(owner.SHARE_VARIABLE, raising=False)
    return tmp_path


def test_a_process_is_started_once_and_ended_by_pid_and_start_time(machine: Path) -> None:
    """Its log is kept, a second start changes nothing, and the end is certain also when SIGTERM is ignored."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
    )
    processes.start("stubborn", [sys.executable, "-c", code])
    first = processes.recorded("stubborn")
    processes.wait_until(lambda: "here" in processes.log_file("stubborn").read_text(), "its output", 10, "stubborn")
    processes.start("stubborn", [sys.executable, "-c", code])
    assert processes.recorded("stubborn") == first
    assert first in processes.marked()
    processes.stop("stubborn", 0.2)
    assert first is not None
    assert not first.alive()


def test_a_pid_that_was_given_to_another_process_is_left_alone(machine: Path) -> None:
    """The record of an earlier boot must not kill a stranger."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record = machine / "run" / "processes" / "etcd.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"pid": stranger.pid, "started": 1}))
        assert not processes.running("etcd")
        processes.stop("etcd", 0.1)
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_that_ends_early_is_reported_with_its_log(machine: Path) -> None:
    """At once, not after the timeout."""
    processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such flag')"])
    with pytest.raises(ClusterError, match=r"broken ended(.|\n)*no such flag"):
        processes.wait_until(lambda: False, "broken", 20, "broken")


def test_ranges_in_use_are_avoided_and_the_choice_is_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An office network on 10.244/16 moves the cluster; later it stays where its certificates say it is."""
    monkeypatch.setattr(host, "_ranges_in_use", lambda: [IPv4Network("10.244.7.0/24")])
    chosen = host.choose_network()
    assert not any(entry.overlaps(IPv4Network("10.244.7.0/24")) for entry in chosen.ranges())
    monkeypatch.setattr(host, "_ranges_in_use", lambda: [chosen.pods])
    assert host.choose_network() == chosen


def test_a_machine_with_no_free_range_is_told_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to do."""
    monkeypatch.setattr(host, "_ranges_in_use", lambda: [IPv4Network("10.0.0.0/8")])
    with pytest.raises(ClusterError, match=r"network\.json"):
        host.choose_network()


def test_candidate_ranges_never_overlap_each_other() -> None:
    """Within one candidate, and between them."""
    every = [entry for number in range(host.NETWORK_CANDIDATES) for entry in Network.numbered(number).ranges()]
    assert not any(a.overlaps(b) for i, a in enumerate(every) for b in every[i + 1 :])


def test_a_binary_is_known_by_what_it_is_made_from(tmp_path: Path) -> None:
    """Another source, sum or flag is another key; a file that is not built in is not."""
    (tmp_path / "main.go").write_text("package main")
    (tmp_path / "go.sum").write_text("a")
    first = Program("x", tmp_path).key()
    (tmp_path / "notes.txt").write_text("not built in")
    assert Program("x", tmp_path).key() == first
    assert Program("x", tmp_path, link="-X a=b").key() != first
    (tmp_path / "go.sum").write_text("b")
    assert Program("x", tmp_path).key() != first
