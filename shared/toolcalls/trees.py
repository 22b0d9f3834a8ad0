"""The body of MiniMax M3 calls: nested tags named after the parameters."""

import re
from collections.abc import Mapping
from typing import Any

from shared.toolcalls.schema import (
    JsonSchema,
    resolved_schema,
    schema_options,
    typed_value,
)

_TREE_TAG = re.compile(r"\]<\]minimax\[>\[<(/?)([^<>]+)>")
_DEEPEST_TREE = 40


class _TreeNode:
    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        self.text = ""
        self.children: list[_TreeNode] = []


def read_tree(text: str, schema: JsonSchema) -> dict[str, Any] | None:
    """The arguments in nested `<key>value</key>` tags; None when they do not nest."""
    root = _TreeNode("", 0)
    open_nodes = [root]
    for tag in _TREE_TAG.finditer(text):
        closing, name = tag.groups()
        node = open_nodes[-1]
        if not closing:
            child = _TreeNode(name, tag.end())
            node.children.append(child)
            open_nodes.append(child)
            if len(open_nodes) > _DEEPEST_TREE:
                return None
        elif name != node.name or node is root:
            return None
        else:
            node.text = text[node.start : tag.start()]
            open_nodes.pop()
    if len(open_nodes) > 1:
        return None
    value = _node_value(root, schema, schema) if root.children else {}
    return value if isinstance(value, dict) else None


def _node_value(node: _TreeNode, schema: object, root: JsonSchema) -> Any:
    if not node.children:
        if not node.text and _container_type(schema, root) in ("object", "array"):
            return {} if _container_type(schema, root) == "object" else []
        return typed_value(node.text, schema, root)
    option = next(
        (o for o in schema_options(schema, root) if "properties" in o or "items" in o),
        resolved_schema(schema, root),
    )
    names = [child.name for child in node.children]
    if _container_type(schema, root) == "array" or set(names) == {"item"}:
        items = option.get("items", {})
        return [_node_value(child, items, root) for child in node.children]
    found: dict[str, list[Any]] = {}
    for child in node.children:
        value = _node_value(child, _child_schema(option, child.name), root)
        found.setdefault(child.name, []).append(value)
    # A key that stands there again and again is a list.
    return {name: v if len(v) > 1 else v[0] for name, v in found.items()}


def _child_schema(schema: JsonSchema, name: str) -> object:
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return schema.get("additionalProperties", {})


def _container_type(schema: object, root: JsonSchema) -> object:
    return next(
        (o.get("type") for o in schema_options(schema, root) if "type" in o), None
    )
