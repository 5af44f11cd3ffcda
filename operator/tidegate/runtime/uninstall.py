"""Before an uninstall: stop the operator, then take its finalizers off, since nobody would do so afterwards.

    python -m tidegate.runtime.uninstall --deployment NAME --selector LABELS --release NAME

What the chart shipped (`tidegate.runtime.shipped`) is deleted.

Settings as for the operator: `TIDEGATE_NAMESPACES`, `TIDEGATE_OPERATOR_NAMESPACE`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import Any

from tidegate.clients.kube import Kube
from tidegate.errors import Conflict, KubeError, NotFound, PermanentError
from tidegate.names import FINALIZER_BUILD, FINALIZER_LANDING
from tidegate.runtime.shipped import ship
from tidegate.settings import Settings

OURS = frozenset({FINALIZER_BUILD, FINALIZER_LANDING})
KINDS = ("BuildRequest", "MergeJob")
POLL_SECONDS = 1.0


def without_ours(finalizers: list[str]) -> list[str] | None:
    """The finalizers without Tidegate's; None when there was none of those. Pure."""
    rest = [name for name in finalizers if name not in OURS]
    return None if len(rest) == len(finalizers) else rest


async def stop_operator(kube: Kube, namespace: str, deployment: str, selector: str) -> None:
    """Scale the Deployment to zero and wait until its Pods are gone: a running operator would put them on again."""
    try:
        await kube.patch("Deployment", namespace, deployment, {"spec": {"replicas": 0}})
    except NotFound:
        print(f"Deployment {deployment} is gone already")
    while True:
        pods, _ = await kube.list("Pod", namespace, selector)
        if not pods:
            return
        print(f"waiting for {', '.join(pod['metadata']['name'] for pod in pods)} to end")
        await asyncio.sleep(POLL_SECONDS)


async def release(kube: Kube, kind: str, obj: dict[str, Any]) -> bool:
    """Take Tidegate's finalizers off one object; False when it had none."""
    while True:
        meta = obj["metadata"]
        rest = without_ours(meta.get("finalizers") or [])
        if rest is None:
            return False
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": rest}}
        try:
            await kube.patch(kind, meta["namespace"], meta["name"], patch)
        except NotFound:
            return False
        except Conflict:
            items, _ = await kube.list(kind, meta["namespace"])
            obj = next((o for o in items if o["metadata"]["uid"] == meta["uid"]), {"metadata": {}})
            continue
        return True


async def release_all(kube: Kube, scopes: list[str | None]) -> int:
    """Take Tidegate's finalizers off everything in these namespaces; how many objects had one."""
    released = 0
    for kind in KINDS:
        for scope in scopes:
            try:
                items, _ = await kube.list(kind, scope)
            except NotFound:
                continue  # the definitions are gone, and the objects with them
            for obj in items:
                if await release(kube, kind, obj):
                    print(f"released {kind} {obj['metadata']['namespace']}/{obj['metadata']['name']}")
                    released += 1
    return released


async def uninstall(settings: Settings, deployment: str, selector: str, name: str) -> None:
    """Stop the operator, then release what it held, then delete what the release of that name shipped."""
    kube = await Kube.connect()
    try:
        await stop_operator(kube, settings.operator_namespace, deployment, selector)
        print(f"{await release_all(kube, settings.scopes)} objects released")
        with contextlib.suppress(NotFound):  # the definitions are gone, and the objects with them
            await ship(kube, (), name, patience=0)
    finally:
        await kube.close()


def main() -> int:
    """Exit code 1 when the API server refuses something."""
    parser = argparse.ArgumentParser(prog="python -m tidegate.runtime.uninstall", description="Stop and let go.")
    parser.add_argument("--deployment", required=True, help="name of the operator's Deployment")
    parser.add_argument("--selector", required=True, help="labels of the operator's Pods")
    parser.add_argument("--release", required=True, help="name of the release")
    given = parser.parse_args()
    try:
        asyncio.run(uninstall(Settings(), given.deployment, given.selector, given.release))
    except (KubeError, PermanentError) as error:
        print(f"uninstall: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
