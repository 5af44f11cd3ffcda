"""The command line against a real API server. No operator: the tests write the statuses themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, wait_until
from tests.support.images import image

pytestmark = pytest.mark.cluster

TOOL = str(Path(sys.executable).with_name("tidegate"))
BUILD = """
apiVersion: tidegate.dev/v1alpha1
kind: BuildRequest
metadata: {name: mk}
spec:
  request: Say hello.
  repository: {url: https://git.example.org/team/mk.git}
"""


def cli(cluster: Cluster, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [TOOL, *args, "--kubeconfig", str(cluster.kubeconfig)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90, check=False)


def write_status(cluster: Cluster, kind: str, name: str, namespace: str, status: dict[str, Any]) -> None:
    """Write a status as the operator would."""
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def finalized(reason: str) -> list[dict[str, Any]]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return [
        {"type": "Finalized", "status": "True", "reason": reason, "message": "the words", "lastTransitionTime": now}
    ]


def test_run_applies_follows_and_ends_with_the_verdict(cluster: Cluster, namespace: str) -> None:
    command = [TOOL, "run", "-f", "-", "-n", namespace, "--kubeconfig", str(cluster.kubeconfig)]
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert running.stdin is not None
    running.stdin.write(BUILD)
    running.stdin.close()
    running.stdin = None
    wait_until(lambda: cluster.list("buildrequests", namespace), 30, "the build")
    build = cluster.get("buildrequest", "mk", namespace)
    shown = cluster.kubectl("get", "buildrequest", "mk", "-n", namespace, "-o", "json", "--show-managed-fields")
    assert {entry["manager"] for entry in json.loads(shown)["metadata"]["managedFields"]} == {"tidegate-cli"}
    owner = {"apiVersion": build["apiVersion"], "kind": "BuildRequest", "name": "mk", "uid": build["metadata"]["uid"]}
    task = {
        "apiVersion": build["apiVersion"],
        "kind": "AgentTask",
        "metadata": {
            "name": "mk-1-a",
            "labels": {"tidegate.dev/build": "mk"},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {"buildRef": {"name": "mk"}, "prompt": "x"},
    }
    cluster.apply(task, namespace=namespace)
    write_status(cluster, "agenttask", "mk-1-a", namespace, {"state": "Running"})
    time.sleep(3)
    write_status(cluster, "buildrequest", "mk", namespace, {"conditions": finalized("Passed")})
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    lines = output.splitlines()
    assert lines[0] == "BuildRequest mk applied"
    assert any("task mk-1-a Running" in line for line in lines)
    assert lines[-1] == "Passed: the words"


def test_watch_says_in_its_exit_code_how_the_build_ended(cluster: Cluster, namespace: str) -> None:
    missing = cli(cluster, "watch", "mk", "-n", namespace)
    assert missing.returncode == 2
    assert f"no BuildRequest 'mk' in namespace '{namespace}'" in missing.stdout
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=BUILD)
    write_status(cluster, "buildrequest", "mk", namespace, {"conditions": finalized("Exhausted")})
    ended = cli(cluster, "watch", "mk", "-n", namespace)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == "Exhausted: the words"
    as_json = cli(cluster, "watch", "mk", "-n", namespace, "-o", "json")
    assert json.loads(as_json.stdout)["phase"] == "Exhausted"


def test_a_bad_build_is_refused_in_one_line(cluster: Cluster, namespace: str) -> None:
    done = cli(cluster, "run", "-f", "-", "-n", namespace, stdin=BUILD.replace("https://", "ftp://"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: 422")
    assert "spec.repository.url" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_kubeconfigs_context_is_obeyed(cluster: Cluster, namespace: str) -> None:
    wrong = cli(cluster, "watch", "mk", "--context", "nowhere")
    assert wrong.returncode == 2
    assert "no context 'nowhere'" in wrong.stderr


def pod(name: str, image: str, command: str) -> dict[str, Any]:
    """A Pod with a container `agent`."""
    security = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {
        "name": "agent", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
        "securityContext": security,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 0},
    }


def test_logs_come_from_the_agents_container_and_cannot_steer_the_terminal(cluster: Cluster, namespace: str) -> None:
    task = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "solo"},
        "spec": {"repository": {"url": "https://git.example.org/team/mk.git"}, "prompt": "x"},
    }
    cluster.apply(task, namespace=namespace)
    assert "no attempt so far" in cli(cluster, "logs", "solo", "-n", namespace).stderr
    cluster.apply(
        pod("solo-1", image("runner"), r"printf 'one\n\033[2Jtwo\n'; sleep 2; echo three"), namespace=namespace
    )
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    attempt = {"number": 1, "pod": "solo-1", "startTime": now, "handoffCommit": "c" * 40}
    write_status(cluster, "agenttask", "solo", namespace, {"state": "Running", "attempts": [attempt]})
    followed = cli(cluster, "logs", "solo", "-n", namespace, "--follow")
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.splitlines() == ["one", "two", "three"]
    cluster.kubectl("delete", "pod", "solo-1", "-n", namespace, "--wait=true")
    gone = cli(cluster, "logs", "solo", "-n", namespace)
    assert gone.returncode == 1
    assert "git fetch https://git.example.org/team/mk.git refs/tidegate/handoffs/" in gone.stderr
