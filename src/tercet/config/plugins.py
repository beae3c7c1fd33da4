"""Where a recipe names plug-ins."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tercet.core.plugins import is_plugin


@dataclass(frozen=True)
class NamedPlugin:
    """A plug-in that a key of a recipe names."""

    #: Dotted path of the key's settings, and the key's name among them.
    path: str
    field: str
    group: str
    #: The key's value: the name, for a metric followed by @ and a cut-off.
    value: str
    settings: Any

    @property
    def name(self) -> str:
        """`package.module:Name`, or the entry point's name."""
        return self.value.rpartition("@")[0] if self.group == "metrics" else self.value

    @property
    def options(self) -> Mapping[str, Any]:
        """Its keyword arguments; a metric has none."""
        return getattr(self.settings, "options", {})

    @property
    def parts(self) -> list[str]:
        """Names of the systems that a system is made of."""
        return getattr(self.settings, "of", []) if self.group == "systems" else []


def settings_within(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path of each settings dataclass within one, itself first, and the settings."""
    yield path, settings
    for name, value in vars(settings).items():
        full = f"{path}.{name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            yield from settings_within(value, full)
        for place, each in enumerate(value if isinstance(value, list) else []):
            if dataclasses.is_dataclass(each):
                yield from settings_within(each, f"{full}.{place}")


def plugins_of(settings: Any, path: str) -> Iterator[NamedPlugin]:
    """The plug-ins that the keys of one settings dataclass name."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        if group := field.metadata.get("plugin"):
            value = getattr(settings, field.name)
            built_in = typing.get_args((*typing.get_args(hints[field.name]), None)[0])
            for each in value if isinstance(value, list) else [value]:
                named = NamedPlugin(path, field.name, group, each or "", settings)
                if each not in built_in and is_plugin(group, named.name):
                    yield named


def every_plugin(recipe: Any) -> list[NamedPlugin]:
    """The plug-ins that a recipe names."""
    return [named for path, each in settings_within(recipe) for named in plugins_of(each, path)]
