"""What the chart renders is valid for this API server and for Tidegate's own definitions, by kubeconform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.chart import VARIANTS, Object, of_kind, rendered
from tests.support.cluster import Cluster
from tests.support.kubeconform import check, write_schemas

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_objects_are_valid(cluster: Cluster, tmp_path: Path, values: Object) -> None:
    objects = rendered(values)
    write_schemas(cluster, tmp_path, objects)
    found = check(tmp_path, objects)
    assert found["resources"] == []
    assert found["summary"] == {"valid": len(objects), "invalid": 0, "errors": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replica"), 2),
        ("Deployment", ("spec", "replicas"), "two"),
        ("GateProfile", ("spec", "gates", 0, "timeout"), 5),
        ("GateProfile", ("spec", "gates", 0, "input"), "Files"),
        ("ClusterRole", ("rules", 0, "verb"), ["get"]),
    ],
)
def test_faults_are_found(
    cluster: Cluster, tmp_path: Path, kind: str, path: tuple[str | int, ...], value: object
) -> None:
    objects = rendered({})
    spoilt: Object = next(iter(of_kind(objects, kind).values()))
    holder: object = spoilt
    for part in path[:-1]:
        holder = holder[part]  # type: ignore[index]
    holder[path[-1]] = value  # type: ignore[index]
    write_schemas(cluster, tmp_path, objects)
    found = check(tmp_path, objects)
    assert [(r["kind"], r["status"]) for r in found["resources"]] == [(kind, "statusInvalid")]


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_api_server_takes_the_own_kinds(cluster: Cluster, values: Object) -> None:
    own = [obj for obj in rendered(values) if obj["apiVersion"].startswith("tidegate.dev/")]
    for obj in own:
        obj["metadata"]["name"] += "-dry"
    if own:
        text = "\n---\n".join(json.dumps(obj) for obj in own)
        cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
