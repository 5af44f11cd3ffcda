"""The generated definitions are structural, described, and what is in the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.cluster import ROOT
from tidegate.api.crd import definition, files, main, open_api_schema, structural
from tidegate.api.printing import KINDS, KindInfo

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema with its path, the items of lists included."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield f"{path}{mark}", schema[key]
            yield from fields(schema[key], f"{path}{mark}")


def declared(kind: KindInfo) -> list[tuple[str, dict[str, Any]]]:
    """The fields of spec and status."""
    properties = open_api_schema(kind)["properties"]
    return [field for part in ("spec", "status") for field in fields(properties.get(part, {}), part)]


def test_the_files_are_what_the_types_say() -> None:
    there = {path.name: path.read_text("utf-8") for path in (ROOT / "crds").iterdir()}
    assert there == files(), "run `make generate`"


def test_check_finds_a_difference_and_writes_nothing(tmp_path: Any) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    changed = tmp_path / "agenttasks.yaml"
    changed.write_text("kind: Something\n")
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert changed.read_text() == "kind: Something\n"
    (tmp_path / "stranger.yaml").write_text("")
    assert main(["--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files())


@EVERY_KIND
def test_schemas_are_structural(kind: KindInfo) -> None:
    for path, field in declared(kind):
        assert not {"$ref", "title", "$defs", "allOf", "oneOf", "const", "nullable"} & set(field), path
        assert field.get("additionalProperties") not in (True, False), path
        assert field.get("x-kubernetes-int-or-string") or "type" in field, path
        assert "anyOf" not in field or field.get("x-kubernetes-int-or-string"), path


@EVERY_KIND
def test_every_field_is_described_and_in_camel_case(kind: KindInfo) -> None:
    for path, field in declared(kind):
        name = path.rsplit(".", 1)[-1]
        if name.endswith("[]") or name == "*":
            continue
        assert field.get("description", "").endswith("."), path
        assert re.fullmatch(r"[a-z][A-Za-z]*", name), path


@EVERY_KIND
def test_enumerations_are_in_camel_case(kind: KindInfo) -> None:
    for path, field in declared(kind):
        for word in field.get("enum", []):
            assert re.fullmatch(r"[A-Z][A-Za-z]*", word), path


@EVERY_KIND
def test_status_gets_no_defaults(kind: KindInfo) -> None:
    assert [path for path, field in declared(kind) if path.startswith("status") and "default" in field] == []


@EVERY_KIND
def test_conditions_are_merged_by_type(kind: KindInfo) -> None:
    status = open_api_schema(kind)["properties"].get("status")
    if status:
        conditions = status["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@EVERY_KIND
def test_every_rule_names_its_field_and_a_cure(kind: KindInfo) -> None:
    for path, field in declared(kind):
        for rule in field.get("x-kubernetes-validations", []):
            assert len(rule["message"].split()) >= 5, (path, rule)


def test_each_kind_has_its_own_names() -> None:
    assert [kind.short for kind in KINDS] == ["br", "at", "mj", "ml", "gr", "ac", "gp"]
    made = [yaml.safe_load(text) for text in files().values()]
    assert {crd["metadata"]["name"] for crd in made} == {f"{kind.plural}.tidegate.dev" for kind in KINDS}
    assert all(crd["spec"]["names"]["categories"] == ["tidegate"] for crd in made)


@EVERY_KIND
def test_age_is_the_last_column_of_the_narrow_table(kind: KindInfo) -> None:
    columns = definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    assert narrow[-1] == "Age"
    assert len(narrow) <= 8


def test_optional_references_are_absent_rather_than_null() -> None:
    definitions = {"Thing": {"type": "object", "title": "Thing", "properties": {"a": {"type": "string"}}}}
    schema = {"anyOf": [{"$ref": "#/$defs/Thing"}, {"type": "null"}], "default": None, "description": "A thing."}
    assert structural(schema, definitions) == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "description": "A thing.",
    }
