"""Schemas for kubeconform, made from what the API server says of its kinds: no download."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.chart import Object, program
from tests.support.cluster import Cluster
from tidegate.api.crd import open_api_schema
from tidegate.api.printing import KINDS
from tidegate.names import API_VERSION

LOCATION = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"


def write_schemas(cluster: Cluster, directory: Path, objects: list[Object]) -> None:
    """One strict schema for each kind of the objects: own kinds from the types, others from the API server."""
    for kind in KINDS:
        _write(directory, API_VERSION, kind.kind, _strict(open_api_schema(kind)))
    others = {(obj["apiVersion"], obj["kind"]) for obj in objects if obj["apiVersion"] != API_VERSION}
    for version in sorted({version for version, _ in others}):
        path = f"/openapi/v3/{'apis' if '/' in version else 'api'}/{version}"
        document: Any = json.loads(cluster.kubectl("get", "--raw", path))
        components = {name: _strict(schema) for name, schema in document["components"]["schemas"].items()}
        for name, schema in document["components"]["schemas"].items():
            for served in schema.get("x-kubernetes-group-version-kind", []):
                found = "/".join(part for part in (served["group"], served["version"]) if part)
                if (found, served["kind"]) in others:
                    whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": components}}
                    _write(directory, version, served["kind"], whole)


def _write(directory: Path, api_version: str, kind: str, schema: Object) -> None:
    group, _, version = api_version.rpartition("/")
    # kubeconform takes the version of the core group for its name
    (directory / f"{group or version}_{version}_{kind.lower()}.json").write_text(json.dumps(schema))


def _strict(node: Any) -> Any:
    """A schema that takes no unknown fields."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and "additionalProperties" not in node:
        out["additionalProperties"] = False
    if set(node.get("properties", {})) == {"name"} and node["type"] == "object" and "required" not in node:
        del out["additionalProperties"]  # `metadata` of an own kind: the API server knows the rest
    return out


def check(directory: Path, objects: list[Object]) -> Object:
    """What kubeconform says of the objects: its JSON summary with the resources that are not valid."""
    command = [
        program("kubeconform"),
        "-strict",
        "-summary",
        "-output=json",
        f"-schema-location={directory}/{LOCATION}",
    ]
    text = yaml.safe_dump_all(objects)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    answer: Object = json.loads(done.stdout)
    return answer
