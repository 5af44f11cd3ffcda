"""The demo's build: a fresh repository, the example's request, live progress, and what came of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from dev.cluster.progress import say
from dev.demo.kubectl import ROOT, DemoError, Kubectl, Object, environment
from dev.demo.repository import GitServer, NameTakenError
from dev.demo.services import BUILDS

EXAMPLE = ROOT / "examples/mathkit.yaml"
SEED = ROOT / "examples/mathkit-seed"
MOST_RUNS = 1000
LONGEST_SECONDS = 45 * 60


def run_example(kubectl: Kubectl) -> int:
    """Make a repository, apply the example for it, watch until the verdict; 0 when it is Finalized/Passed."""
    git = GitServer(kubectl)
    name = fresh_repository(kubectl, git)
    say(f"Build {name} in namespace {BUILDS}; repository {git.url_in_cluster(name)}")
    request = for_repository(EXAMPLE.read_text(), name, git.url_in_cluster(name))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(request)
        file.flush()
        watch(kubectl, file.name)
    build = kubectl.get("buildrequest", name, BUILDS)
    if build is None:
        raise DemoError(f"the BuildRequest {name} is gone")
    return report(kubectl, git, name, build)


def fresh_repository(kubectl: Kubectl, git: GitServer) -> str:
    """Make a repository from the seed under the first name that neither a build nor a repository has: its name."""
    taken = {item["metadata"]["name"] for item in kubectl.items("buildrequests", BUILDS)}
    for number in range(1, MOST_RUNS):
        name = "mathkit" if number == 1 else f"mathkit-{number}"
        if name in taken:
            continue
        try:
            git.make(name, SEED)
        except NameTakenError:
            continue
        return name
    raise DemoError(f"{MOST_RUNS} runs of the demo are there; `make demo-down` removes them")


def for_repository(text: str, name: str, url: str) -> str:
    """The example with another name and repository; its text is otherwise as it stands."""
    text, named = re.subn(r"(?m)^  name: mathkit$", f"  name: {name}", text)
    text, located = re.subn(r"(?m)^    url: \S+$", f"    url: {url}", text)
    if (named, located) != (1, 1):
        raise DemoError(f"{EXAMPLE} has not one name and one url as the demo expects them")
    return text


def watch(kubectl: Kubectl, file: str) -> None:
    """`tidegate run`: apply and follow. Its exit code is left alone: the report reads the verdict itself."""
    command = [str(Path(sys.executable).with_name("tidegate")), "run", "-f", file, "-n", BUILDS]
    try:
        subprocess.run(command, env=environment(kubectl), timeout=LONGEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        say(f"the build did not end within {LONGEST_SECONDS // 60} minutes")


def report(kubectl: Kubectl, git: GitServer, name: str, build: Object) -> int:
    """Print verdict, merged log, gates, and how to look further."""
    conditions = {c["type"]: c for c in build.get("status", {}).get("conditions", [])}
    finalized = conditions.get("Finalized", {})
    passed = finalized.get("status") == "True" and finalized.get("reason") == "Passed"
    print("\nMerged commits of main:")
    print(indented(merged_log(git, name)))
    print("\nGates that passed:")
    print(indented(gates(kubectl, name)))
    for entry in build.get("status", {}).get("unmerged", []):
        print(f"Unmerged: {entry.get('task')}: {entry.get('reason')} ({entry.get('ref', 'no ref')})")
    built = Path(kubectl.tool("kubectl"))
    path = f" PATH=$PATH:{built.parent}" if built.is_absolute() else ""
    print(f"""
Look further:
  export KUBECONFIG={kubectl.kubeconfig}{path}
  kubectl get br,at,mj,ml,gr -n {BUILDS}
  kubectl describe buildrequest {name} -n {BUILDS}
  git clone {git.url_here(name)}
  make repo NAME=x FROM=dir     # a repository for a request of your own
""")
    verdict = f"{finalized.get('reason', 'not finalized')}: {finalized.get('message', '')}".rstrip(": ")
    print(f"Verdict of {name}: {verdict}")
    return 0 if passed else 1


def merged_log(git: GitServer, name: str) -> str:
    """The target branch's history with the files of each commit."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = ["git", "clone", "--quiet", "--bare", git.url_here(name), scratch]
        log = ["git", "-C", scratch, "log", "--stat", "--format=%h %s", "main"]
        for command in (clone, log):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"not readable: {done.stderr.strip()}"
        return done.stdout.strip()


def gates(kubectl: Kubectl, name: str) -> str:
    """For each landed change the gates of its candidate."""
    lines = []
    for job in kubectl.items("mergejobs", BUILDS, f"tidegate.dev/build={name}"):
        status = job.get("status", {})
        verdicts = ", ".join(f"{gate['name']} {gate.get('verdict', '')}" for gate in status.get("gates", []))
        lines.append(f"{job['metadata']['name']} {status.get('mergedCommit', '')[:10]}: {verdicts or 'none'}")
    return "\n".join(lines) or "none: nothing was merged"


def indented(text: str) -> str:
    """Two spaces before each line."""
    return "\n".join(f"  {line}" for line in text.splitlines())
