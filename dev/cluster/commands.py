"""The commands: which cluster is meant, and what is done with it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dev.cluster import build, images, kind, local, owner, status, teardown
from dev.cluster.errors import ClusterError
from dev.cluster.progress import say
from dev.cluster.settings import ADMIN_KUBECONFIG

MODE_VARIABLE = "TIDEGATE_CLUSTER"
Mode = Literal["given", "kind", "local"]


def mode() -> Mode:
    """Which cluster the environment asks for. Unasked: the local one if it runs, kind if Docker answers, else local."""
    match os.environ.get(MODE_VARIABLE, "auto"):
        case "given":
            return "given"
        case "kind":
            return "kind"
        case "local":
            return "local"
        case "auto" | "":
            return "local" if owner.anything_runs() or not kind.docker_answers() else "kind"
        case other:
            raise ClusterError(f"{MODE_VARIABLE}={other!r} is none of given, kind, local, auto")


def kubeconfig(chosen: Mode) -> Path:
    """The kubeconfig of the cluster. Raises ClusterError where there is none."""
    if chosen == "given":
        given = os.environ.get("KUBECONFIG", "")
        if not given or not Path(given).is_file():
            raise ClusterError(f"{MODE_VARIABLE}=given needs KUBECONFIG to name one file; it is {given!r}")
        return Path(given)
    path = kind.kubeconfig() if chosen == "kind" else ADMIN_KUBECONFIG
    if not path.is_file():
        raise ClusterError(f"there is no {chosen} cluster (no {path}). Cure: make cluster-up")
    return path


def _up(arguments: argparse.Namespace) -> None:
    chosen = mode()
    if chosen == "local":
        if arguments.wipe and owner.is_ours():
            teardown.down(wipe=True, force=False)
        local.up(local.Options(arguments.nodes, arguments.fake_nodes, arguments.stages, arguments.audit))
        return
    if arguments.fake_nodes:
        raise ClusterError(f"--fake-nodes is for the local cluster, not for {chosen}")
    if arguments.audit:
        say(f"A {chosen} cluster has no audit log of ours; what counts Pods from it cannot run")
    if chosen == "kind":
        kind.up(arguments.nodes)
    build.link_kubectl()
    say(f"Using the {chosen} cluster: KUBECONFIG={kubeconfig(chosen)}")


def _down(arguments: argparse.Namespace) -> None:
    match mode():
        case "given":
            say("The given cluster is left alone")
        case "kind":
            kind.down()
        case "local":
            teardown.down(arguments.wipe, arguments.force)


def _kubeconfig(_: argparse.Namespace) -> None:
    print(kubeconfig(mode()))


def _status(_: argparse.Namespace) -> None:
    chosen = mode()
    if chosen == "local":
        print("\n".join(status.lines()))
        if not local.is_up():
            raise ClusterError("the local cluster is not up. Cure: make cluster-up")
    else:
        print(f"{chosen} cluster\nkubeconfig: {kubeconfig(chosen)}")


def _load(arguments: argparse.Namespace) -> None:
    match mode():
        case "given":
            raise ClusterError("images cannot be loaded into a given cluster: push them to a registry that it reads")
        case "kind":
            kind.load(arguments.archives)
        case "local":
            local.load(arguments.archives)


def _addresses(_: argparse.Namespace) -> None:
    match mode():
        case "given":
            print(json.dumps({"mode": "given", "kubeconfig": str(kubeconfig("given"))}, indent=1))
        case "kind":
            print(kind.addresses())
        case "local":
            print(local.addresses())


def _base_image(_: argparse.Namespace) -> None:
    print(images.base_image())


def _tools(arguments: argparse.Namespace) -> None:
    build.tools(arguments.names)
    print(build.bin_directory())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev/cluster/cli.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="bring the cluster up; what runs is left alone")
    up.add_argument("--nodes", type=int, default=1, metavar="N", help="real nodes (default: 1)")
    up.add_argument("--fake-nodes", type=int, default=0, metavar="N", help="nodes that kwok pretends")
    up.add_argument("--stages", type=Path, metavar="FILE", help="stages of fake Pods (default: our own)")
    up.add_argument("--wipe", action="store_true", help="begin with empty state")
    up.add_argument("--audit", action="store_true", help="audit every request, not Pods and tidegate.dev alone")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="end the cluster and put the machine back")
    down.add_argument("--wipe", action="store_true", help="delete its state too")
    down.add_argument("--force", action="store_true", help="also if it belongs to another checkout")
    down.set_defaults(run=_down)

    load = commands.add_parser("load", help="import image archives")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    load.set_defaults(run=_load)

    tools = commands.add_parser("tools", help="build tools from pinned modules; prints the directory they are in")
    tools.add_argument("names", nargs="*", default=[*build.TOOL_PROGRAMS, "kubectl"], metavar="NAME")
    tools.set_defaults(run=_tools)

    for name, run, text in (
        ("kubeconfig", _kubeconfig, "print the path of the kubeconfig, nothing else"),
        ("status", _status, "print what runs and where things are"),
        ("addresses", _addresses, "print address ranges as JSON"),
        ("base-image", _base_image, "print the path of the Debian base's docker archive, made on first use"),
    ):
        commands.add_parser(name, help=text).set_defaults(run=run)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ClusterError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `down` cleans up", file=sys.stderr)
        return 130
    return 0
