"""Objects with every list, text and map filled to the bound that the generated schema gives it."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
LIMIT_BYTES = 256 * 1024

# Fields with a pattern or a rule that the plain filler doesn't meet: a value as long as allowed, by field name.
SPECIAL: dict[str, Any] = {
    "url": "https://git.example.org/" + "u" * (1024 - 24),
    "email": "a" * 242 + "@example.org",
    "branchPrefix": "tidegate/" + "b" * 90 + "/",
    "sourceRef": "refs/" + "r" * 251,
    "fetchRef": "refs/" + "r" * 251,
    "refPrefix": "refs/tidegate/" + "r" * 86,
    "minimumPercent": "99.9999",
}
# Fields that exclude another one: left out.
LEFT_OUT = {"requestFrom", "buildRef", "cidr", "http", "review", "change"}


class UnboundedError(AssertionError):
    """A field that may grow without limit."""


def filled(schema: Schema, path: str = "", index: int = 0) -> Any:
    """A value of the schema, as large as its bounds allow. `index` makes the items of a list differ.

    Raises UnboundedError for a text, list or map without a bound.
    """
    name = path.rsplit(".", 1)[-1]
    if "enum" in schema:
        choices = schema["enum"]
        return choices[index % len(choices)]
    if schema.get("x-kubernetes-int-or-string"):
        if name in SPECIAL:
            return SPECIAL[name]
        return "1" + "0" * (schema["maxLength"] - 2) + "m"
    match schema["type"]:
        case "object":
            return _object(schema, path, index)
        case "array":
            most = _bound(schema, "maxItems", path)
            return [filled(schema["items"], f"{path}[]", number) for number in range(most)]
        case "string":
            return _text(schema, path, name, index)
        case "integer":
            low = schema.get("minimum", 0)
            return max(
                low, min(schema.get("maximum", 2**31 - 1), 2**31 - 1) - (index if "maximum" not in schema else 0)
            )
        case "boolean":
            return False
        case other:
            raise AssertionError(f"{path}: a type the filler doesn't know: {other}")


def _object(schema: Schema, path: str, index: int) -> Any:
    if "additionalProperties" in schema:
        most = _bound(schema, "maxProperties", path)
        longest = _key_bound(schema, path)
        inner = schema["additionalProperties"]
        return {f"{number}".ljust(longest, "k"): filled(inner, f"{path}.*", index) for number in range(most)}
    return {
        key: filled(field, f"{path}.{key}", index)
        for key, field in schema.get("properties", {}).items()
        if key not in LEFT_OUT
    }


def _bound(schema: Schema, key: str, path: str) -> int:
    if key not in schema:
        raise UnboundedError(f"{path} has no {key}")
    return int(schema[key])


def _key_bound(schema: Schema, path: str) -> int:
    for rule in schema.get("x-kubernetes-validations", []):
        if rule["rule"].startswith("self.all(k, size(k) <= "):
            return int(rule["rule"].removeprefix("self.all(k, size(k) <= ").removesuffix(")"))
    raise UnboundedError(f"{path}: the keys have no bound")


def _text(schema: Schema, path: str, name: str, index: int) -> str:
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00.000000Z"
    most = _bound(schema, "maxLength", path)
    if name in SPECIAL:
        return str(SPECIAL[name])
    return f"a{index}".ljust(most, "a")
