"""Objects from a file, applied as kubectl would."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from tidegate.clients.kube import Kube
from tidegate.clients.resources import RESOURCES

FIELD_MANAGER = "tidegate-cli"


class FileError(ValueError):
    """The file can't be applied; the text says what to change."""


def read_objects(path: str) -> list[dict[str, Any]]:
    """The objects in a YAML or JSON file, `-` is standard input. Raises FileError."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {error}") from None
    try:
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise FileError(f"{path} is no YAML: {error}") from None
    objects: list[dict[str, Any]] = []
    for document in found:
        objects += document.get("items", []) if _is_list(document) else [document]
    for number, obj in enumerate(objects, 1):
        _check(path, number, obj)
    return objects


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "List"


def _check(path: str, number: int, obj: Any) -> None:
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not obj["metadata"].get("name"):
        raise FileError(f"{path}, object {number}: needs apiVersion, kind and metadata.name")
    resource = RESOURCES.get(str(obj.get("kind")))
    if resource is None or resource.api_version != obj.get("apiVersion"):
        kind = f"{obj.get('apiVersion')}/{obj.get('kind')}"
        raise FileError(f"{path}, object {number}: {kind} can't be applied here: use kubectl apply")


def builds_in(objects: list[dict[str, Any]], namespace: str) -> list[tuple[str, str]]:
    """Namespace and name of each BuildRequest."""
    return [
        (obj["metadata"].get("namespace") or namespace, obj["metadata"]["name"])
        for obj in objects
        if obj["kind"] == "BuildRequest"
    ]


async def apply_objects(kube: Kube, objects: list[dict[str, Any]], namespace: str) -> list[str]:
    """Server-side apply, one after the other in the file's order; a line for each."""
    lines: list[str] = []
    for obj in objects:
        resource = RESOURCES[obj["kind"]]
        where = (obj["metadata"].get("namespace") or namespace) if resource.namespaced else ""
        await kube.patch(
            obj["kind"], where, obj["metadata"]["name"], obj, content="apply", field_manager=FIELD_MANAGER
        )  # fmt: skip
        lines.append(f"{obj['kind']} {obj['metadata']['name']} applied")
    return lines
