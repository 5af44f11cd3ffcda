"""Run every suite: what needs no cluster first, then the rest on a cluster that is brought up for it.

A cluster that ran before stays up; one that was brought up here is taken down again, whatever happens.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = [sys.executable, str(ROOT / "dev/cluster/cli.py")]
LOCAL_SUITES = ["tests/unit", "tests/property"]
CLUSTER_SUITES = ["tests/chaos", "tests/e2e", "tests/chart", "tests/integration"]  # the longest first
# Files side by side, each in one process and in the order given; what runs on the cluster waits a lot.
LOCAL_PROCESSES, CLUSTER_PROCESSES = 2, 3


def say(text: str) -> None:
    """Tell what happens next."""
    print(f"\n=== {text} [{time.strftime('%H:%M:%S')}]", flush=True)


def pytest(paths: list[str], processes: int, extra_env: dict[str, str] | None = None) -> int:
    """Run pytest on paths; its exit code."""
    spread = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", *spread, *paths, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **(extra_env or {})}, check=False).returncode


def cluster_is_up() -> bool:
    """Whether a cluster runs already."""
    return subprocess.run([*CLUSTER, "status"], cwd=ROOT, capture_output=True, check=False).returncode == 0


def main() -> int:
    """All suites; 0 when each passed."""
    say("unit and property tests")
    failed = pytest(LOCAL_SUITES, LOCAL_PROCESSES)
    was_up = cluster_is_up()
    say("cluster")
    subprocess.run([*CLUSTER, "up", "--audit"], cwd=ROOT, check=True)
    try:
        say("images")
        built = subprocess.run(
            [sys.executable, str(ROOT / "dev/images/cli.py"), "build"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        subprocess.run([*CLUSTER, "load", *built.stdout.split()], cwd=ROOT, check=True)
        kubeconfig = subprocess.run(
            [*CLUSTER, "kubeconfig"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        say("chart and real-cluster tests")
        failed = pytest(CLUSTER_SUITES, CLUSTER_PROCESSES, {"KUBECONFIG": kubeconfig}) or failed
    finally:
        if not was_up:
            say("cluster down")
            subprocess.run([*CLUSTER, "down"], cwd=ROOT, check=False)
    return failed


if __name__ == "__main__":
    sys.exit(main())
