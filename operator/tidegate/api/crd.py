"""Make the CustomResourceDefinitions from the resource types.

    python -m tidegate.api.crd [--check] [--out DIRECTORY]

The schemas are structural, as the API server wants them: no references, no titles, no `anyOf` with null, no
`additionalProperties: false`; optional fields are absent rather than null.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tidegate import names
from tidegate.api.printing import KINDS, Column, KindInfo

HEADER = "# Generated from operator/tidegate/api by `make generate`: edit the types, not this file.\n"
_DROPPED = ("title", "$defs", "discriminator")

Schema = dict[str, Any]


def definition(kind: KindInfo) -> Schema:
    """The CustomResourceDefinition of a kind."""
    version: Schema = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": open_api_schema(kind)},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.has_status:
        version["subresources"] = {"status": {}}
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": [names.OPERATOR],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _column(column: Column) -> Schema:
    out: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        out["description"] = column.description
    if column.wide:
        out["priority"] = 1
    return out


def open_api_schema(kind: KindInfo) -> Schema:
    """The structural schema of a kind."""
    raw = kind.model.model_json_schema(by_alias=True)
    schema = structural(raw, raw.get("$defs", {}))
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "Version of the API that the object is written in."},
        "kind": {"type": "string", "description": "Kind of the object."},
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": names.MAX_NAME}}},
        "spec": schema["properties"]["spec"],
    }
    if kind.has_status:
        properties["status"] = without_defaults(schema["properties"]["status"])
    return {
        "type": "object",
        "description": schema["description"],
        "required": ["spec"],
        "properties": properties,
    }


def structural(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema of pydantic as a structural schema."""
    if isinstance(node, list):
        return [structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = _resolved(_without_null(_resolved(node, definitions)), definitions)
    out: Schema = {}
    for key, value in node.items():
        if key in _DROPPED or (key == "default" and not _worth_a_default(value)):
            continue
        if key == "default":
            # Defaults of the fields inside are the API server's to fill in.
            out[key] = {} if isinstance(value, dict) else value
        elif key == "const":
            out["enum"] = [value]
        elif key == "properties":
            out[key] = {name: structural(field, definitions) for name, field in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = structural(value, definitions)
        else:
            out[key] = value
    if out.get("x-kubernetes-int-or-string"):
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return out


def _worth_a_default(value: Any) -> bool:
    """Empty lists and texts say no more than absence."""
    return value is not None and value not in ("", [])


def _resolved(node: Schema, definitions: Mapping[str, Any]) -> Schema:
    """The node with its reference replaced by what it names; what stands beside the reference wins."""
    while "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        node = {**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _without_null(node: Schema) -> Schema:
    """`anyOf [X, null]` as X; what stands beside `anyOf` wins."""
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**choices[0], **rest}


def without_defaults(node: Any) -> Any:
    """A schema without defaults: the API server must not fill in what the operator did not write."""
    if isinstance(node, list):
        return [without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: value for key, value in node.items() if key != "default"}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = without_defaults(out[key])
    if "properties" in out:
        out["properties"] = {name: without_defaults(field) for name, field in out["properties"].items()}
    return out


def files() -> dict[str, str]:
    """File name and YAML text of every CustomResourceDefinition."""
    return {
        f"{kind.plural}.yaml": HEADER + yaml.safe_dump(definition(kind), sort_keys=False, width=118, allow_unicode=True)
        for kind in KINDS
    }


def write(directory: Path, texts: Mapping[str, str], *, check: bool) -> list[str]:
    """Write the files that differ and remove strange ones; with `check` only name them. Returns their names."""
    there = {path.name: path.read_text("utf-8") for path in directory.glob("*.yaml")} if directory.is_dir() else {}
    different = sorted(name for name in {*there, *texts} if there.get(name) != texts.get(name))
    if check:
        return different
    directory.mkdir(parents=True, exist_ok=True)
    for name in different:
        if name in texts:
            (directory / name).write_text(texts[name], "utf-8")
        else:
            (directory / name).unlink()
    return different


def main(arguments: list[str] | None = None) -> int:
    """Write or check `crds/`; exit code 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m tidegate.api.crd", description="Make crds/ from the types.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file would change")
    parser.add_argument("--out", type=Path, default=Path("crds"), help="directory of the files (crds)")
    given = parser.parse_args(arguments)
    different = write(given.out, files(), check=given.check)
    if given.check and different:
        sys.stderr.write(f"not as generated: {', '.join(f'{given.out}/{n}' for n in different)}; run `make generate`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
