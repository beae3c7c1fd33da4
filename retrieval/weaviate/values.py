"""Values of properties as ids, titles and texts.

This module does not import the Weaviate client.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

#: Types of properties whose values have a text; those with [] are lists of them.
PLAIN = ("text", "string", "uuid", "date", "int", "number", "boolean")
#: Between the items of a list.
JOINED = "\n\n"


def value_at(properties: Mapping[str, Any], name: str) -> Any:
    """The value of a property; `meta.source` is that of a nested one. None if it is not there."""
    value: Any = properties
    for part in name.split("."):
        if isinstance(value, list):  # of objects
            value = [each.get(part) for each in value if isinstance(each, Mapping)]
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def text_of(value: Any) -> Any:
    """A value as its text, a list's items joined by blank lines; None and others as they are."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case int() | float() | UUID():
            return str(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case list() | tuple():
            return JOINED.join(str(text_of(each)) for each in value if each not in (None, ""))
    return value
