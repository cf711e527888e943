"""Messages of invalid parameters."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel

from psfr.utils.errors import safe_repr, truncate


def describe(error: Any, model: type[BaseModel]) -> str:
    """Return `key: what is wrong` of one of pydantic's errors.

    Args:
        error: one of `ValidationError.errors()`.
        model: the class that was validated.
    """
    location = [truncate(part, 80) for part in error["loc"] if part != "[key]"]
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        similar = difflib.get_close_matches(location[-1], _keys(model, location[:-1]), 1)
        message = f"unknown key: did you mean {similar[0]}?" if similar else "unknown key: remove it"
    elif kind == "missing":
        named = location[0] == "testsets"
        message = "missing key: see docs/testsets.md" if named else "missing key: copy it from params/*.yaml"
    elif kind in ("model_type", "dict_type"):
        message = f"must be a group of keys, not {safe_repr(value)}"
    else:
        message = error["msg"].removeprefix("Value error, ")
        if kind != "value_error":
            message = f"{message[0].lower()}{message[1:]}"
        # A validator's own message has the value already, and pydantic's message on a wrong length has the length.
        if kind not in ("value_error", "too_short", "too_long"):
            message += f", not {safe_repr(value)}"
    return f"{'.'.join(location)}: {message}".removeprefix(": ")


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the keys of the group of parameters at a location."""
    group: Any = model
    for name in location:
        is_mapping = not isinstance(group, type)  # dict[name, group]
        group = get_args(group)[1] if is_mapping else group.model_fields[name].annotation
    return list(group.model_fields)
