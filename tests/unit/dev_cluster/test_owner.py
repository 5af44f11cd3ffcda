"""Whose the machine's local cluster is: another checkout's is shared or left alone, unless nothing of it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dev.cluster import owner, processes
from dev.cluster.errors import ClusterError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a cluster that another checkout brought up."""
    monkeypatch.setattr(owner, "STATE", tmp_path)
    monkeypatch.setattr(processes, "RUN", tmp_path / "run")
    monkeypatch.delenv(owner.SHARE_VARIABLE, raising=False)
    (tmp_path / "owner.json").write_text(json.dumps({"checkout": "/elsewhere"}))
    return tmp_path


def record_process(state: Path, started: int) -> None:
    """Record this test's process as the cluster's, begun at `started`."""
    file = state / "run" / "processes" / "etcd.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pid": os.getpid(), "started": started}))


def test_a_running_cluster_of_another_checkout_is_refused_with_the_cure(state: Path) -> None:
    own_start = processes._start_time(os.getpid())
    assert own_start is not None
    record_process(state, own_start)
    assert not owner.is_abandoned()
    with pytest.raises(ClusterError, match=r"belongs to the checkout /elsewhere.*make cluster-down"):
        owner.claim()
    assert owner.current() == Path("/elsewhere")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_dead_cluster_of_another_checkout_is_abandoned(state: Path, recorded: bool) -> None:
    if recorded:
        record_process(state, 1)  # the pid lives, but it is another process now
    assert owner.is_abandoned()


def test_a_shared_cluster_is_never_abandoned(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.SHARE_VARIABLE, "1")
    assert not owner.is_abandoned()
    assert owner.claim() is False


def test_nobodys_cluster_is_claimed(state: Path) -> None:
    (state / "owner.json").unlink()
    assert not owner.is_abandoned()
    assert owner.claim() is True
    assert owner.is_ours()
