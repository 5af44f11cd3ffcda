"""What the chart renders is valid for this API server and for Tidegate's own definitions, by kubeconform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.chart import VARIANTS, Object, of_kind, rendered
from tests.support.cluster import ROOT, Cluster
from tests.support.kubeconform import check, write_schemas

pytestmark = pytest.mark.cluster

CHECKED = {**VARIANTS, "demo": yaml.safe_load((ROOT / "dev/demo/values.yaml").read_text())}


@pytest.fixture(scope="module")
def schemas(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Schemas of every kind that the chart renders."""
    directory = tmp_path_factory.mktemp("schemas")
    write_schemas(cluster, directory, [obj for values in CHECKED.values() for obj in rendered(values)])
    return directory


@pytest.mark.parametrize("values", CHECKED.values(), ids=CHECKED)
def test_objects_are_valid(schemas: Path, values: Object) -> None:
    objects = rendered(values)
    found = check(schemas, objects)
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
def test_faults_are_found(schemas: Path, kind: str, path: tuple[str | int, ...], value: object) -> None:
    objects = rendered({})
    spoilt: Object = next(iter(of_kind(objects, kind).values()))
    holder: object = spoilt
    for part in path[:-1]:
        holder = holder[part]  # type: ignore[index]
    holder[path[-1]] = value  # type: ignore[index]
    found = check(schemas, objects)
    assert [(r["kind"], r["status"]) for r in found["resources"]] == [(kind, "statusInvalid")]


@pytest.mark.parametrize("values", CHECKED.values(), ids=CHECKED)
def test_the_api_server_takes_the_own_kinds(cluster: Cluster, values: Object) -> None:
    own = [obj for obj in rendered(values) if obj["apiVersion"].startswith("tidegate.dev/")]
    for obj in own:
        obj["metadata"]["name"] += "-dry"
    if own:
        text = "\n---\n".join(json.dumps(obj) for obj in own)
        cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
