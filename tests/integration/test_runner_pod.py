"""Runner and gateway in real Pods, without the operator: containers, signals, mounts, tokens by the kubelet."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, fresh_name, wait_until
from tests.support.gitserver import GitServer
from tests.support.images import image
from tidegate import names
from tidegate.api.wire import PublisherReport, WorkspaceReport
from tidegate.tasks.pod import Platform, PodPlan, agent_pod

pytestmark = pytest.mark.cluster
Object = dict[str, Any]


class Run:
    """One attempt as a Pod, with an AgentTask that owns it."""

    def __init__(self, cluster: Cluster, namespace: str, git: GitServer, gateway: str = "") -> None:
        self.cluster, self.namespace, self.git, self.gateway = cluster, namespace, git, gateway
        self.repository = git.make_repository({"README.md": "hello\n", "src/a.py": "a = 1\n"})
        self.task = fresh_name("task")
        secret = git.credentials()
        cluster.apply(secret, namespace=namespace)

    def start(self, script: str, image_name: str = "runner", **class_spec: Any) -> None:
        repository = {"url": self.git.url(self.repository), "credentialsSecretName": "git-token"}
        spec: Object = {"prompt": script}
        self.uid = self._make_task(spec) if self.gateway else str(uuid.uuid4())
        given: Object = {"image": image(image_name), "engine": {"protocol": "Script"}, "publishSeconds": 20}
        timeout = class_spec.pop("timeoutSeconds", 60)
        plan = PodPlan(
            self.namespace, self.task, self.uid, 1, {**spec, "timeoutSeconds": timeout}, repository, "script",
            {**given, **class_spec}, Platform(image("runner"), "IfNotPresent", self.gateway, "http:https"),
        )  # fmt: skip
        self.pod_name = names.pod_name(self.task, 1)
        pod = agent_pod(plan)
        if not self.gateway:  # a Pod that no operator and no garbage collector minds
            del pod["metadata"]["ownerReferences"], pod["metadata"]["labels"]
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", **pod}, namespace=self.namespace)

    def _make_task(self, spec: Object) -> str:
        """The AgentTask that owns the Pod, as the operator writes it; its build is missing, so nobody starts it."""
        metadata = {"name": self.task}
        task = {"apiVersion": names.API_VERSION, "kind": "AgentTask", "metadata": metadata,
                "spec": {**spec, "buildRef": {"name": "missing"}}}  # fmt: skip
        self.cluster.apply(task, namespace=self.namespace)
        attempts = [{"number": 1, "pod": names.pod_name(self.task, 1), "startTime": "2026-01-01T00:00:00Z"}]
        patch = json.dumps({"status": {"state": "Running", "attempts": attempts}})
        self.cluster.kubectl("patch", "agenttask", self.task, "-n", self.namespace, "--subresource=status",
                             "--type=merge", "-p", patch)  # fmt: skip
        return str(self.cluster.get("agenttask", self.task, self.namespace)["metadata"]["uid"])

    def pod(self) -> Object:
        return self.cluster.get("pod", self.pod_name, self.namespace)

    def started(self) -> bool:
        rows = self.pod()["status"].get("containerStatuses") or [{}]
        return "running" in rows[0].get("state", {})

    def end(self, seconds: float = 90) -> Object:
        wait_until(lambda: self.pod()["status"]["phase"] in ("Succeeded", "Failed"), seconds, "the Pod to end")
        return self.pod()

    def message(self, pod: Object, container: str) -> str:
        status = pod["status"]
        for row in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            if row["name"] == container:
                return str(row["state"]["terminated"].get("message", ""))
        raise AssertionError(container)

    def exit_code(self, pod: Object) -> int:
        return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])

    def report(self, pod: Object) -> PublisherReport:
        return PublisherReport.loads(self.message(pod, "publisher"))

    def log(self, container: str) -> str:
        return self.cluster.kubectl("logs", self.pod_name, "-n", self.namespace, "-c", container)


@pytest.fixture
def run(cluster: Cluster, namespace: str, git_server: GitServer) -> Run:
    return Run(cluster, namespace, git_server)


def test_a_script_in_a_real_pod_becomes_a_pushed_commit(run: Run, tmp_path: Path) -> None:
    run.start("echo b = 2 > src/b.py; id -u; ls -a; cat /var/run/secrets/tidegate/git/* && exit 9; echo all done")
    pod = run.end()
    assert run.exit_code(pod) == 0, run.log("agent")
    report = run.report(pod)
    assert report.error == "", report
    assert (report.handoff_status, report.files_changed) == ("Complete", 1)
    assert WorkspaceReport.loads(run.message(pod, "workspace")).base == report.base
    clone = run.git.clone(run.repository, tmp_path / "clone")
    assert clone.refs()[names.task_ref(run.uid)] == report.commit
    assert clone.read("src/b.py", report.commit) == "b = 2"
    log = run.log("agent")
    assert "all done" in log
    assert ".git" not in log.split()
    assert run.git.token not in log


def test_an_agent_that_ignores_sigterm_is_killed_and_its_work_kept(run: Run, tmp_path: Path) -> None:
    script = "trap '' TERM; echo half > half.txt; echo begun; (setsid sleep 1000 &); while :; do sleep 1; done"
    run.start(script, stopSeconds=3)
    wait_until(run.started, 60, "the agent to start")
    wait_until(lambda: "begun" in run.log("agent"), 60, "the engine to begin")
    run.cluster.kubectl("delete", "pod", run.pod_name, "-n", run.namespace, "--wait=false")
    clone = run.git.clone(run.repository, tmp_path / "clone")

    def kept() -> str:
        clone.fetch()
        return clone.refs().get(names.wip_ref(run.uid, 1), "")

    commit = wait_until(kept, 30, "the work in progress")
    assert clone.read("half.txt", commit) == "half"


def test_a_timeout_is_124_and_keeps_the_work(run: Run) -> None:
    run.start("echo half > half.txt; trap '' TERM; while :; do sleep 1; done", timeoutSeconds=3, stopSeconds=2)
    pod = run.end()
    assert run.exit_code(pod) == 124
    report = run.report(pod)
    assert (report.handoff_status, report.ref) == ("Failed", names.wip_ref(run.uid, 1))


def test_out_of_memory_leaves_the_work_on_a_wip_ref(run: Run) -> None:
    hungry = "#!/usr/bin/env python3\nopen('half.txt', 'w').write('half')\nx = []\nwhile True: x.append(bytes(10**7))\n"
    limits = {"cpu": "1", "memory": "64Mi", "ephemeral-storage": "1Gi"}
    run.start(hungry, resources={"limits": limits, "requests": limits})
    pod = run.end()
    assert run.exit_code(pod) == 137
    report = run.report(pod)
    assert report.ref == names.wip_ref(run.uid, 1)
    assert report.files_changed == 1


class Model(BaseHTTPRequestHandler):
    """A model's server on the host; remembers the Authorization headers it saw."""

    seen: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers["Content-Length"]))
        usage = {"prompt_tokens": 5, "completion_tokens": 7}
        body = json.dumps({"choices": [{"message": {"content": "hi from the model"}}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """The gateway as a process of this machine, in front of a model's server; its URL for Pods."""
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, args=(0.05,), daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    (tmp_path / "key").write_text("sk-the-providers-key")
    env = {
        **os.environ, "KUBECONFIG": str(cluster.kubeconfig), "TIDEGATE_GATEWAY_PORT": str(port),
        "TIDEGATE_GATEWAY_UPSTREAM": f"http://127.0.0.1:{model.server_address[1]}/v1",
        "TIDEGATE_GATEWAY_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "tidegate.gateway"], env=env)
    url = f"http://{cluster.node_address()}:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready() -> bool:
        try:
            return bool(opener.open(f"{url}/readyz", timeout=2).status == 200)
        except OSError:
            return False

    try:
        wait_until(ready, 30, "the gateway")
        yield url
    finally:
        process.terminate()
        assert process.wait(30) == 0
        model.shutdown()
        model.server_close()


ASK = """#!/usr/bin/env python3
import json, os, urllib.request
def call(token):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    try:
        return urllib.request.urlopen(request).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
print(call(os.environ["OPENAI_API_KEY"]))
print(call("forged"))
print("the key:", [name for name, value in os.environ.items() if "sk-the" in value])
open("asked.txt", "w").write("yes")
"""


def test_an_agent_reaches_the_model_with_its_pods_token_and_its_tokens_are_counted(
    cluster: Cluster, namespace: str, git_server: GitServer, gateway: str
) -> None:
    run = Run(cluster, namespace, git_server, gateway)
    run.start(ASK)
    pod = run.end()
    log = run.log("agent")
    assert run.exit_code(pod) == 0, log
    assert "hi from the model" in log
    assert "401" in log
    assert "the key: []" in log
    assert Model.seen == ["Bearer sk-the-providers-key"]
    report = run.report(pod)
    assert (report.tokens_in, report.tokens_out, report.model_calls) == (5, 7, 1), report
