"""The shapes of a JSON object that names a tool and gives its arguments."""

from typing import Any

_NAME_KEYS = ("name", "tool_name", "tool", "function", "function_name", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "action_input", "params")
_OTHER_KEYS = frozenset({"id", "type", "tool_call_id", "index"})
FIRST_KEYS = frozenset(
    {*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS, "tool_calls", "tool_call"}
)
NAMING_KEYS = frozenset(_NAME_KEYS)

NamedArguments = tuple[str, Any]


def calls_in(value: object, *, strict: bool) -> list[NamedArguments]:
    """Names and arguments in a parsed object; [] when it is no call.

    `strict`, for objects without any wrapper, wants the arguments to be there and no
    key that a call does not have. Otherwise arguments may be missing, and an object
    may have the tool's name as its only key.
    """
    if not isinstance(value, dict):
        return []
    if isinstance(listed := value.get("tool_calls"), list):
        if strict and len(value) > 1:
            return []
        found = [calls_in(one, strict=strict) for one in listed]
        return [call for calls in found for call in calls] if all(found) else []
    for key in ("function", "tool_call"):
        if isinstance(inner := value.get(key), dict):
            if strict and value.keys() - {key} - _OTHER_KEYS:
                return []
            return calls_in(inner, strict=strict)
    return _named_call(value, strict)


def _named_call(value: dict[str, Any], strict: bool) -> list[NamedArguments]:
    name_key = next((k for k in _NAME_KEYS if isinstance(value.get(k), str)), None)
    if name_key is None:
        only = next(iter(value.items())) if len(value) == 1 and not strict else None
        return [only] if only and isinstance(only[1], dict) else []
    argument_key = next((k for k in _ARGUMENT_KEYS if k in value), None)
    if strict:
        known = {name_key, argument_key} | _OTHER_KEYS
        if argument_key is None or value.keys() - known:
            return []
    if _is_schema(value.get(argument_key or "")):
        return []  # a tool's description, not a call
    return [(value[name_key], value.get(argument_key) if argument_key else None)]


def _is_schema(arguments: object) -> bool:
    return (
        isinstance(arguments, dict)
        and arguments.get("type") == "object"
        and isinstance(arguments.get("properties"), dict)
    )
