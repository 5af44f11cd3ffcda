"""Agents that fail, hang, leak or break rules: the reason is in the status, and no work is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Team
from tests.support import objects
from tests.support.cluster import Cluster, condition, fresh_name
from tests.support.images import image

pytestmark = pytest.mark.cluster

KEY_HEAD, KEY_TAIL = "AKIA", "Q3EGRJ7WOP2LN5XZ"  # looks like an AWS key, is none


@pytest.fixture(scope="session")
def small_class(cluster: Cluster) -> Iterator[str]:
    """An AgentClass with little memory."""
    name = fresh_name("small")
    resources = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "48Mi"}}
    cluster.apply(objects.agent_class(name, image("runner"), resources=resources))
    yield name
    cluster.kubectl("delete", "agentclass", name, "--wait=false")


def alone(team: Team, name: str, script: str, **spec: object) -> dict[str, object]:
    """A task without a build, no retries: its status at the end."""
    agent_class = str(spec.pop("agent_class", team.script_class))
    spec = {"retryLimit": 0, "gateProfileName": team.profile, **spec}
    task = objects.agent_task(name, team.url, script, agent_class=agent_class, **spec)
    team.cluster.apply(task, namespace=team.namespace)
    return team.task_in_state(name, "Failed", 180)


def reason_of_last_attempt(status: dict[str, object]) -> str:
    """Why the newest attempt ended."""
    attempts = status["attempts"]
    assert isinstance(attempts, list)
    return str(attempts[-1]["reason"])


def work_in_progress(team: Team, name: str) -> str:
    """The ref with what the failed task left."""
    uid = team.cluster.get("agenttask", name, team.namespace)["metadata"]["uid"]
    team.clone.fetch()
    refs = team.clone.refs(f"refs/tidegate/wip/{uid}")
    assert refs, "the work of a failed attempt is on the remote"
    return next(iter(refs))


def test_timeout_with_sigterm_ignored(team: Team) -> None:
    script = "trap '' TERM; echo half > half.txt; while :; do sleep 1; done"
    status = alone(team, "slow", script, timeoutSeconds=5)
    assert reason_of_last_attempt(status) == "TimedOut"
    assert team.clone.read("half.txt", work_in_progress(team, "slow")) == "half"


def test_out_of_memory(team: Team, small_class: str) -> None:
    script = "#!/usr/bin/env python3\nopen('before.txt', 'w').write('kept')\nx = bytearray(400 * 1024 * 1024)\n"
    status = alone(team, "hungry", script, agent_class=small_class)
    assert reason_of_last_attempt(status) == "OutOfMemory"
    assert team.clone.read("before.txt", work_in_progress(team, "hungry")) == "kept"


def test_exit_code_is_retried_then_escalated(team: Team) -> None:
    status = alone(team, "crash", "echo try >> tries.txt; exit 3", retryLimit=1)
    attempts = status["attempts"]
    assert isinstance(attempts, list)
    assert [a["exitCode"] for a in attempts] == [3, 3]
    assert condition({"status": status}, "Succeeded")["reason"] == "Escalated"


def test_a_secret_in_a_file_holds_back_that_file_and_the_merge(team: Team) -> None:
    script = f"echo fine > fine.txt; printf 'x = 1\nkey = \"%s%s\"\n' {KEY_HEAD} {KEY_TAIL} > leak.py"
    status = alone(team, "leaky", script)
    assert reason_of_last_attempt(status) == "SecretFound"
    message = condition({"status": status}, "Succeeded")["message"]
    assert "leak.py" in message
    assert "2" in message
    ref = work_in_progress(team, "leaky")
    assert "fine.txt" in team.clone.files(ref)
    assert "leak.py" not in team.clone.files(ref)
    everything = team.cluster.kubectl("get", "at,mj,pods,events", "-n", team.namespace, "-o", "yaml")
    assert KEY_HEAD + KEY_TAIL not in everything
    assert not team.cluster.list("mergejobs", team.namespace)


def test_a_hostile_workspace_runs_nothing_and_leaks_nothing(team: Team) -> None:
    script = """
mkdir -p .git/hooks nested/.git sub
ran=/tidegate/output/ran
printf '[core]\\n\\tfsmonitor = touch %s\\n[filter "x"]\\n\\tclean = touch %s\\n' $ran $ran > .git/config
cp .git/config nested/.git/config
printf '* filter=x\\n' > .gitattributes
ln -s /etc/passwd stolen
ln -s /var/run/secrets/tidegate/git/password token
mkfifo pipe
echo real > sub/real.txt
"""
    team.cluster.apply(
        objects.agent_task(
            "hostile", team.url, script, agent_class=team.script_class, retryLimit=0, gateProfileName=team.profile
        ),
        namespace=team.namespace,
    )
    team.task_in_state("hostile", "Complete", 180)
    uid = team.cluster.get("agenttask", "hostile", team.namespace)["metadata"]["uid"]
    team.clone.fetch()
    ref = f"refs/tidegate/tasks/{uid}"
    files = team.clone.files(ref)
    assert "sub/real.txt" in files
    assert not [f for f in files if ".git/" in f or f in {"stolen", "token", "pipe"}]
