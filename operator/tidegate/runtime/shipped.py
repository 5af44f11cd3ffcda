"""After an install or upgrade: bring the chart's AgentClasses and GateProfiles into the cluster.

    python -m tidegate.runtime.shipped FILE --release NAME

They can't be plain objects of the release: helm refuses a manifest whose kinds aren't served yet, and the same release
brings the definitions. What the release brought before and FILE no longer holds is deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tidegate.clients.kube import Kube
from tidegate.errors import KubeError, NotFound, PermanentError

KINDS = ("AgentClass", "GateProfile")
INSTANCE = "app.kubernetes.io/instance"
SERVED_SECONDS = 90.0  # for definitions that were created a moment ago
POLL_SECONDS = 1.0

Object = dict[str, Any]


def read(text: str, release: str) -> list[Object]:
    """The objects of a YAML stream. Raises PermanentError for any other kind or release."""
    objects: list[Object] = [obj for obj in yaml.safe_load_all(text) if obj]
    for obj in objects:
        if obj.get("kind") not in KINDS or _release_of(obj) != release:
            found = f"{obj.get('kind')} {(obj.get('metadata') or {}).get('name')}"
            raise PermanentError("Unexpected", f"{found} is not an object that the release {release!r} ships")
    return objects


async def served(kube: Kube, kind: str, patience: float) -> list[Object]:
    """All objects of a kind; waits up to `patience` seconds until the API server serves it, else raises NotFound."""
    end = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return (await kube.list(kind))[0]
        except NotFound:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(POLL_SECONDS)


async def ship(kube: Kube, objects: Iterable[Object], release: str, patience: float = SERVED_SECONDS) -> None:
    """Make the release's objects these and no others. Raises PermanentError where a name is taken."""
    wanted = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    there = {(kind, obj["metadata"]["name"]): obj for kind in KINDS for obj in await served(kube, kind, patience)}
    for key in wanted.keys() & there.keys():
        if _release_of(there[key]) != release:
            cure = f"delete it, leave it out of the values, or give it the label {INSTANCE}={release}"
            raise PermanentError("NameTaken", f"{' '.join(key)} exists and isn't this release's: {cure}")
    for (kind, name), obj in wanted.items():
        await kube.patch(kind, "", name, obj, content="apply")
        print(f"applied {kind} {name}")
    for kind, name in sorted(there.keys() - wanted.keys()):
        if _release_of(there[kind, name]) == release:
            await kube.delete(kind, "", name)
            print(f"deleted {kind} {name}")


def _release_of(obj: Object) -> str:
    return str(((obj.get("metadata") or {}).get("labels") or {}).get(INSTANCE, ""))


async def run(objects: list[Object], release: str) -> None:
    """Connect and ship."""
    kube = await Kube.connect()
    try:
        await ship(kube, objects, release)
    finally:
        await kube.close()


def main() -> int:
    """Exit code 1 when the API server refuses something."""
    parser = argparse.ArgumentParser(
        prog="python -m tidegate.runtime.shipped", description="Bring what the chart ships."
    )
    parser.add_argument("file", type=Path, help="YAML stream of AgentClasses and GateProfiles")
    parser.add_argument("--release", required=True, help="name of the release: the label of what it ships")
    given = parser.parse_args()
    try:
        asyncio.run(run(read(given.file.read_text(), given.release), given.release))
    except (KubeError, PermanentError) as error:
        print(f"shipped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
