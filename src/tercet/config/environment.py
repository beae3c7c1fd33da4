"""`${NAME}` in a recipe is an environment variable's value, and `~` before a path a home."""

from __future__ import annotations

import os
import re

from tercet.config.parsing import Node, plain_scalar
from tercet.core.environment import FromEnvironment
from tercet.core.schema import InputError

#: `$${NAME}` is the text `${NAME}`.
_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")

_HOME = re.compile(r"~[\w.-]*/")


def expand(node: Node, path: str = "") -> None:
    """Replace the variables in all values, and a home before a path.

    Raises InputError for a variable that is unset or empty.
    """
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            expand(child, f"{path}.{name}" if path else name)
    elif isinstance(node.value, list):
        for place, child in enumerate(node.value):
            expand(child, f"{path}.{place}")
    elif isinstance(node.value, str):
        text = _VARIABLE.sub(lambda found: _value(found, f"{node.where}: {path}"), node.value)
        if _HOME.match(text) and "prompt" not in path:
            text = os.path.expanduser(text)
        if text == node.value:
            return
        node.text = FromEnvironment(text, node.value)
        # As if it stood there: a number is a number.
        value = plain_scalar(text)
        node.value = node.text if value is None or isinstance(value, str) else value


def _value(found: re.Match[str], place: str) -> str:
    escaped, name = found.groups()
    if escaped:
        return f"${{{name}}}"
    if not os.environ.get(name):
        raise InputError(f"{place} needs the environment variable {name}, which is not set")
    return os.environ[name]
