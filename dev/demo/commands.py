"""The demo's commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.progress import say, step
from dev.demo import build, install
from dev.demo.kubectl import DemoError, Kubectl
from dev.demo.repository import GitServer
from dev.demo.services import BUILDS, SERVICES, SYSTEM, TOKEN_SECRET


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    chosen = _parser().parse_args(arguments)
    kubectl = Kubectl()
    try:
        if chosen.command == "up":
            install.up(kubectl)
            return 0
        if chosen.command == "run":
            install.up(kubectl)
            return build.run_example(kubectl)
        if chosen.command == "down":
            return down(kubectl)
        if chosen.command == "repo":
            return repo(kubectl, chosen.name, chosen.files)
        print(GitServer(kubectl).url_here(chosen.name))
    except (DemoError, ClusterError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; the cluster and what runs there stay. `make demo-down` removes it", file=sys.stderr)
        return 130
    return 0


def repo(kubectl: Kubectl, name: str, files: Path | None) -> int:
    """Make a repository and print the URL that a BuildRequest names."""
    git = GitServer(kubectl)
    git.make(name, files)
    print(git.url_in_cluster(name))
    say(f"Name it in a BuildRequest in namespace {BUILDS}, with credentialsSecretName: {TOKEN_SECRET}")
    say(f"kubectl --kubeconfig={kubectl.kubeconfig} apply -n {BUILDS} -f FILE; clone: make -s repo-url NAME={name}")
    return 0


def down(kubectl: Kubectl) -> int:
    """Remove builds, chart and services; the cluster stays."""
    with step("Removing the demo"):
        if kubectl.get("namespace", BUILDS, ""):
            kubectl("delete", "buildrequests,agenttasks", "--all", "-n", BUILDS, "--ignore-not-found", "--timeout=120s")
        if install.RELEASE in kubectl.helm("list", "--namespace", SYSTEM, "--short").split():
            kubectl.helm("uninstall", install.RELEASE, "--namespace", SYSTEM, "--wait")
        kubectl("delete", "namespace", BUILDS, SERVICES, SYSTEM, "--ignore-not-found", "--timeout=180s")
    say("The cluster stays; `make cluster-down` ends it")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev/demo/cli.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="cluster, images, git server, model, chart")
    commands.add_parser("run", help="up, then a build from examples/mathkit.yaml, watched until its verdict")
    commands.add_parser("down", help="remove what the demo installed; the cluster stays")
    made = commands.add_parser("repo", help="make a repository; prints the URL that a BuildRequest names")
    made.add_argument("name")
    made.add_argument("--from", dest="files", type=Path, default=None, help="directory with its first files")
    commands.add_parser("repo-url", help="print the URL this machine clones from").add_argument("name")
    return parser
