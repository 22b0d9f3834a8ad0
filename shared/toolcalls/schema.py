"""Arguments against a tool's JSON schema: types for raw text, and whether they fit."""

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from referencing.exceptions import Unresolvable

from shared.toolcalls.styles import JSON_STYLE, PYTHON_STYLE
from shared.toolcalls.values import read_value

JsonSchema = Mapping[str, Any]

_NULLS = frozenset({"null", "None"})
_BOOLEANS = {"true": True, "false": False}
# What some schemas call a type, and what JSON Schema does.
_TYPE_NAMES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
# What models put around arguments once more.
_ENVELOPES = frozenset({"arguments", "parameters", "properties", "args", "input"})
_TEXT_TYPES = ({"string"}, {"string", "null"})
_UNREADABLE = (ValueError, RecursionError)


class SchemaFit:
    """One tool's parameter schema, compiled once."""

    def __init__(self, schema: JsonSchema) -> None:
        self.root = schema
        self.properties: Mapping[str, JsonSchema] = self._mapping("properties")
        self._validator = Draft202012Validator(schema)
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except SchemaError:
            # A tool whose schema is broken still runs; only its shape cannot be judged.
            self._validator = Draft202012Validator({"type": "object"})

    def _mapping(self, key: str) -> Mapping[str, Any]:
        found = self.root.get(key)
        return found if isinstance(found, Mapping) else {}

    def fits(self, arguments: object) -> bool:
        """Whether `arguments` is an object that the schema allows."""
        try:
            return isinstance(arguments, dict) and self._validator.is_valid(arguments)
        except (Unresolvable, RecursionError):
            return isinstance(arguments, dict)

    def fitted(self, arguments: object) -> dict[str, Any] | None:
        """`arguments` as they are, or with values typed by the schema; None: no fit."""
        if not isinstance(arguments, dict):
            return None
        arguments = self._opened(arguments)
        if self.fits(arguments):
            return arguments
        try:
            typed = coerced_value(arguments, self.root, self.root)
        except RecursionError:
            return None
        return typed if self.fits(typed) else None

    def _opened(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What stands in an envelope, when all of it are parameters of the tool."""
        envelope, content = next(iter(arguments.items()), ("", None))
        if (
            len(arguments) > 1
            or envelope not in _ENVELOPES - self.properties.keys()
            or not self.properties
        ):
            return arguments
        if isinstance(content, str) and content.lstrip().startswith("{"):
            content = _container(content.strip())
        if isinstance(content, dict) and content.keys() <= self.properties.keys():
            return content
        return arguments

    def typed(self, name: str, raw: str) -> Any:
        """The value of parameter `name` whose source is the text `raw`."""
        try:
            return typed_value(raw, self.properties.get(name, {}), self.root)
        except RecursionError:
            return raw


def resolved_schema(schema: object, root: JsonSchema) -> JsonSchema:
    """`schema` behind its local `$ref`, {} when there is nothing to go by."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        schema = found
    return {}


def schema_options(schema: object, root: JsonSchema) -> list[JsonSchema]:
    """The alternatives of a schema (anyOf, oneOf, allOf flattened), at least one."""
    plain = resolved_schema(schema, root)
    found: list[JsonSchema] = []
    for key in ("anyOf", "oneOf", "allOf"):
        for option in plain.get(key) or ():
            found.extend(schema_options(option, root))
    return found if found and "type" not in plain else [plain]


def schema_types(options: list[JsonSchema]) -> list[str]:
    """The JSON types that the alternatives allow, in their order; []: any."""
    types: list[str] = []
    for option in options:
        stated = option.get("type")
        if stated is None:
            members = option.get("enum") or [
                option[k] for k in ("const",) if k in option
            ]
            stated = [_type_of(member) for member in members]
            if not stated:
                return []
        names = [stated] if isinstance(stated, str) else stated
        types.extend(_TYPE_NAMES.get(name, name) for name in names)
    return types


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def typed_value(raw: str, schema: object, root: JsonSchema) -> Any:
    """What raw text means under `schema`; text that fits no other type is a string."""
    options = schema_options(schema, root)
    types = schema_types(options)
    text = raw.strip()
    if not types:
        return _untyped(raw)
    if "string" in types and any(raw in (o.get("enum") or ()) for o in options):
        return raw
    if "null" in types and text in _NULLS:
        return None
    if text[:1] in ("{", "[") and ("object" in types or "array" in types):
        value = _container(text)
        if value is not None and _type_of(value) in types:
            return coerced_value(value, schema, root)
    for kind in types:
        if kind == "string":
            return raw
        if kind == "boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind in ("integer", "number"):
            number = _number(text, kind)
            if number is not None:
                return number
    return raw


def _untyped(raw: str) -> Any:
    try:
        return json.loads(raw)
    except _UNREADABLE:
        return raw


def _container(text: str) -> Any:
    unescaped = text.replace('\\"', '"').replace("\\\\", "\\")
    for source, style in (
        (text, JSON_STYLE),
        (text, PYTHON_STYLE),
        (unescaped, JSON_STYLE),
    ):
        try:
            return json.loads(source)
        except _UNREADABLE:
            pass
        try:
            return read_value(source, style)
        except _UNREADABLE:
            continue
    return None


def _number(text: str, kind: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    if kind == "integer":
        return int(value) if value.is_integer() else None
    return value


def coerced_value(value: Any, schema: object, root: JsonSchema) -> Any:
    """`value` with its parts typed as `schema` says, where they can only mean that."""
    options = schema_options(schema, root)
    types = schema_types(options)
    if isinstance(value, str):
        return typed_value(value, schema, root) if types else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Codes and numbers of houses are often written without quotes.
        return json.dumps(value) if set(types) in _TEXT_TYPES else value
    option = options[0]
    if isinstance(value, dict):
        for candidate in options:
            if candidate.get("properties"):
                option = candidate
                break
        properties = option.get("properties") or {}
        return {
            k: coerced_value(v, properties.get(k, {}), root) for k, v in value.items()
        }
    if isinstance(value, list):
        items: object = next((o["items"] for o in options if "items" in o), {})
        return [coerced_value(one, items, root) for one in value]
    return value
