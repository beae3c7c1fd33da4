"""Typed settings from YAML and the command line; every error names its line or flag."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from tercet.core.environment import written
from tercet.core.plugins import is_plugin, registered
from tercet.core.schema import InputError
from tercet.core.text import one_line

T = TypeVar("T")
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z")
_LONGEST = 100_000  # characters of one YAML text: PyYAML reads some 100,000 a second
_MOST_VALUES = 100_000  # values of one YAML text
#: Keys of earlier versions and their new names.
RENAMED = {
    "model.side": "model.train (both, query_encoder or query_adapter)",
    "model.student": "model.train (query_encoder or query_adapter)",
    "model.vectors": "model.passage_vectors (encode, corpus, index or a Parquet file)",
    "triplets.teacher_weight": "teacher.student_weight (1 minus it)",
    "triplets.filter_fits": "triplets.filter_max_matches",
    "loss.near_positive": "loss.false_negative_margin",
    "evaluation.primary": "evaluation.primary_metric",
    "evaluation.clock_queries": "evaluation.latency_queries",
    "evaluation.clock_batch": "evaluation.latency_batch_size",
    "evaluation.clock_seconds": "evaluation.latency_budget_seconds",
    "evaluation.second_path": "evaluation.out_of_domain_path",
    "evaluation.second_split": "evaluation.out_of_domain_split",
}

#: Values of earlier versions and what they are called now.
RENAMED_VALUES = {
    ("triplets.calibration", "spread"): "std_ratio",
    ("evaluation.systems.N.kind", "cohere"): "{kind: api, api: cohere}",
}


class UnknownKey(InputError):
    """A name that is no key of its section, `path`; `names` are those of that section."""

    def __init__(self, where: str, name: str, path: str, names: Sequence[str]) -> None:
        self.where, self.name, self.path, self.names = where, name, path, names
        super().__init__(self.message(nearest(name, names)))

    def message(self, hint: str) -> str:
        """The error in one line, with a hint."""
        within = f" in {self.path}" if self.path else ""
        return f"{self.where}: unknown key {self.name!r}{within}{hint}"


def key(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    plugin: str = "",
    one: bool = False,
) -> Any:
    """A dataclass field with a one-line meaning and the range of its values, ends included.

    A value may also name a plug-in of the group `plugin`. With `one` a value that is no list stands
    for a list of it.
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "above": above, "plugin": plugin}
    metadata["one"] = one
    if callable(default):
        return dataclasses.field(
            default_factory=default, metadata=metadata, hash=False if one else None
        )
    return dataclasses.field(default=default, metadata=metadata)


def plugin_options() -> Any:
    """A dataclass field of a plug-in's options, which other values of the key beside it lack."""
    return dataclasses.field(
        default_factory=dict, hash=False, metadata={"meaning": "keyword arguments of a plug-in"}
    )


def request_fields(meaning: str) -> Any:
    """A dataclass field of further fields of an API's requests."""
    return dataclasses.field(default_factory=dict, hash=False, metadata={"meaning": meaning})


def section(kind: Callable[[], Any]) -> Any:
    """A dataclass field that is a group of settings."""
    return dataclasses.field(default_factory=kind, metadata={"meaning": ""})


@dataclass
class Node:
    """A YAML value with its place and, for a scalar, its text as written."""

    value: Any
    where: str
    text: str = ""

    def plain(self) -> Any:
        """The plain value, without places."""
        if isinstance(self.value, dict):
            return {name: child.plain() for name, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """Reads 1e-6, which YAML 1.1 takes for text, as a number."""


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Loader` would read as a number."""


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, [*"-+.0123456789"])


def dump_yaml(value: Any, **given: Any) -> str:
    """Plain values as YAML, in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **given)
    return text


def read_yaml(path: Path) -> Node:
    """Read a YAML file as a tree. Raises InputError unless it is readable and a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    root = parse_yaml(text, str(path), lines=True)
    if root.value is None:
        root.value = {}
    if not isinstance(root.value, dict):
        raise InputError(f"{path}: a recipe is a mapping of sections to keys")
    return root


def parse_yaml(text: str, source: str, *, lines: bool) -> Node:
    """Parse YAML text; places are `source:line`, or `source` alone if `lines` is off."""
    if len(text) > _LONGEST:
        raise InputError(f"{source}: a recipe has at most {_LONGEST:,} characters")
    try:
        root = _composed(text)
        if root is None:
            return Node(None, source)
        if _values(root, {}) > _MOST_VALUES:
            raise InputError(f"{source}: aliases repeat more than {_MOST_VALUES:,} values")
        return _convert(root, _Loader(""), source, lines)
    except yaml.reader.ReaderError as error:
        place, problem = f":{text.count(chr(10), 0, error.position) + 1}", error.reason
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place, problem = f":{mark.line + 1}" if mark else "", error.problem or "malformed"
    except RecursionError:
        place, problem = "", "nested without end"
    raise InputError(f"{source}{place if lines else ''}: not valid YAML ({one_line(problem)})")


@functools.lru_cache(maxsize=32)
def _composed(text: str) -> yaml.Node | None:
    """PyYAML's tree, cached: the studio's form parses its recipe again for each key."""
    return _Loader(text).get_single_node()


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a tree with expanded aliases."""
    if id(node) not in known:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for each in inner for part in (each if isinstance(each, tuple) else (each,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _convert(node: yaml.Node, loader: yaml.SafeLoader, source: str, lines: bool) -> Node:
    where = f"{source}:{node.start_mark.line + 1}" if lines else source
    if isinstance(node, yaml.MappingNode):
        children: dict[str, Node] = {}
        for name_node, child_node in node.value:
            child = _convert(child_node, loader, source, lines)
            if lines:
                child.where = f"{source}:{name_node.start_mark.line + 1}"
            if not isinstance(name_node, yaml.ScalarNode):
                raise InputError(f"{child.where}: a key must be text")
            name = name_node.value
            if name in children:
                raise InputError(f"{child.where}: {name!r} is given twice")
            children[name] = child
        return Node(children, where)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(child, loader, source, lines) for child in node.value], where)
    try:
        value = loader.construct_object(node)
        str(value)  # Python writes no integer of thousands of digits into a message
        return Node(value, where, node.value)
    except (ValueError, LookupError, AttributeError):  # PyYAML does not catch 2026-13-45
        raise InputError(f"{where}: {node.value!r} is not a value that YAML has") from None


def plain_scalar(text: str) -> Any:
    """The value of a text that stands in YAML without quotes."""
    tag = _Loader("").resolve(yaml.ScalarNode, text, (True, False))
    return _convert(yaml.ScalarNode(tag, text), _Loader(""), "", lines=False).value


def override(root: Node, arguments: Sequence[str], defaults: Any = None) -> None:
    """Apply `--section.key value` (or `--section.key=value`) pairs to the tree, values as YAML.

    A list that the tree lacks and that a pair reaches into is that of `defaults`, a settings
    dataclass.
    """
    pending = list(arguments)
    while pending:
        flag = pending.pop(0)
        if not flag.startswith("--"):
            raise InputError(f"{flag!r} is not an option: overrides look like --section.key value")
        name, equals, value = flag.partition("=")
        if not equals:
            if not pending:
                raise InputError(f"{name} needs a value")
            value = pending.pop(0)
        node = parse_yaml(value, name, lines=False)
        if isinstance(node.value, dict):
            # "query: " is YAML for a mapping, but often meant as text.
            node.text = value
        _place(root, name[2:].replace("-", "_").split("."), node, defaults)


def _place(node: Node, steps: list[str], new: Node, defaults: Any) -> None:
    """Set the node at a path; a step into a list is a number, one more than the last appends."""
    step, rest = steps[0], steps[1:]
    if node.value is None:
        node.value = {}
    if isinstance(node.value, list):
        if not step.isdecimal() or len(step) > 6 or int(step) > len(node.value):
            raise InputError(f"{new.where}: {step!r} is not a place in a list of {len(node.value)}")
        if int(step) == len(node.value):
            node.value.append(Node({}, new.where))
        if rest:
            _place(node.value[int(step)], rest, new, None)
        else:
            node.value[int(step)] = new
        return
    if not isinstance(node.value, dict):
        raise InputError(f"{new.where}: {step!r} is within {node.value!r}, which has no keys")
    if rest:
        default = getattr(defaults, step, None)
        if step not in node.value:
            node.value[step] = Node({}, new.where)
            if isinstance(default, list) and rest[0].isdecimal():
                text = dump_yaml([dataclasses.asdict(item) for item in default])
                node.value[step] = parse_yaml(text, new.where, lines=False)
        _place(node.value[step], rest, new, default)
    else:
        node.value[step] = new


def nearest(name: str, names: Sequence[str]) -> str:
    """'; did you mean X?' with the most similar name, or a list of all names."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}"


def build(kind: type[T], node: Node, path: str = "") -> T:
    """Build a settings dataclass. Raises InputError for unknown keys and invalid values."""
    if node.value is None:
        return kind()
    if not isinstance(node.value, dict):
        example = f", such as {path}.{dataclasses.fields(kind)[0].name}" if path else ""  # type: ignore[arg-type]
        raise InputError(f"{node.where}: {path or 'the recipe'} must be a mapping of keys{example}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for name, child in node.value.items():
        full = f"{path}.{name}" if path else name
        if name not in fields:
            if full in RENAMED:
                raise InputError(f"{child.where}: {full} is now {_renamed(full, child.value)}")
            raise UnknownKey(child.where, name, path, list(fields))
        if fields[name].metadata.get("one") and not isinstance(
            child.value, list | dict | type(None)
        ):
            child = Node([child], child.where)
        values[name] = _coerce(hints[name], child, full, fields[name].metadata.get("plugin", ""))
        check_range(values[name], fields[name].metadata, child.where, full)
    return kind(**values)


def _renamed(path: str, value: Any) -> str:
    """A key's new name, with its value there where that is another."""
    if path == "triplets.teacher_weight" and isinstance(value, int | float):
        return f"{RENAMED[path]}, here {1 - value:g}"
    return RENAMED[path]


def check_range(value: Any, limits: typing.Mapping[str, Any], where: str, path: str) -> None:
    """Raise InputError unless the value, or each value of a list, is within the limits of `key`."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if low is not None and number < low:
            raise InputError(f"{where}: {path} must be at least {low}, not {number}")
        if above is not None and number <= above:
            raise InputError(f"{where}: {path} must be above {above}, not {number}")
        if high is not None and number > high:
            raise InputError(f"{where}: {path} must be at most {high}, not {number}")


def _coerce(kind: Any, node: Node, path: str, plugin: str = "") -> Any:
    """The node's value as `kind`, or a plug-in's name. Raises InputError for another type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), node, path)
    if origin in (types.UnionType, typing.Union):
        if node.value is None and type(None) in arguments:
            return None
        others = [argument for argument in arguments if argument is not type(None)]
        lists = [other for other in others if typing.get_origin(other) is list]
        several = isinstance(node.value, list) and lists
        return _coerce(lists[0] if several else others[0], node, path, plugin)
    if origin is Literal:
        if node.value in arguments or (plugin and is_plugin(plugin, node.value)):
            return node.value
        choices = [*arguments, *(registered(plugin) if plugin else ())]
        raise InputError(f"{node.where}: {_not_a_choice(node.value, choices, path)}")
    if origin is list:
        if not isinstance(node.value, list):
            raise InputError(f"{node.where}: {path} must be a list, not {node.plain()!r}")
        return [_coerce(arguments[0], child, f"{path}.{i}") for i, child in enumerate(node.value)]
    if origin is dict:
        if not isinstance(node.value, dict):
            raise InputError(f"{node.where}: {path} must be a mapping of keys")
        return _of_json(node, path)
    return coerce_scalar(kind, node, path)


def _of_json(node: Node, path: str) -> Any:
    """The node's plain value. Raises InputError for one that a manifest cannot hold, a date."""
    try:
        json.dumps(node.plain(), allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(f"{node.where}: {path} has a value that JSON lacks: quote it") from None
    return node.plain()


def _not_a_choice(value: Any, choices: Sequence[Any], path: str) -> str:
    """The fault of a value that is not among the choices, with its new name or the nearest."""
    of_any = re.sub(r"\.\d+\b", ".N", path)  # all entries of a list have the same keys
    if renamed := RENAMED_VALUES.get((of_any, str(value))):
        return f"{path} {value} is now {renamed}"
    return f"{path} cannot be {value!r}{nearest(str(value), [str(choice) for choice in choices])}"


def coerce_scalar(kind: type, node: Node, path: str) -> Any:
    """The node's value as a str, bool, int or float."""
    value = node.value
    if kind is float:
        if isinstance(value, str):  # in quotes
            try:
                value = float(value)
            except ValueError:
                pass
        if isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1023 else math.inf
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{node.where}: {path} must be a finite number, not {value}")
    if kind is str and isinstance(value, int | float | dict) and not isinstance(value, bool):
        value = node.text or value  # a name 1.10 stays "1.10"
    if type(value) is not kind and not (kind is str and isinstance(value, str)):
        noun = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise InputError(f"{node.where}: {path} must be {noun}, not {node.plain()!r}")
    return value


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested settings as one mapping of dotted names, texts from the environment as `written`."""
    value = written(value)
    if isinstance(value, dict):
        items = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        items = [(str(place), inner) for place, inner in enumerate(value)]
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, inner in items:
        flat |= flatten(inner, f"{path}.{name}" if path else name)
    return flat
