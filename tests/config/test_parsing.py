"""Recipes are read or refused, with the place of what is wrong; nothing else comes out."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, strategies as st

from tercet.config.loading import load_recipe
from tercet.config.parsing import (
    RENAMED,
    RENAMED_VALUES,
    Node,
    build,
    flatten,
    key,
    nearest,
    override,
    parse_yaml,
    read_yaml,
)
from tercet.config.recipe import Recipe
from tercet.core.schema import InputError


@dataclass(frozen=True)
class Inner:
    rate: float = key(0.1, "a rate", above=0, high=1)
    size: int | None = key(None, "a size", low=2)
    kind: Literal["round", "square"] = key("round", "a kind")


@dataclass(frozen=True)
class Outer:
    name: str = key("n", "a name")
    on: bool = key(False, "a switch")
    cuts: list[int] = key(lambda: [1], "cuts", low=1)
    inner: Inner = dataclasses.field(default_factory=Inner, metadata={"meaning": ""})
    many: list[Inner] = key(list, "several")


def read(text: str, *overrides: str) -> Outer:
    root = parse_yaml(text, "r.yaml", lines=True)
    override(root, overrides)
    return build(Outer, root)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        read(text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_type_is_read() -> None:
    outer = read(
        "name: x\non: true\ncuts: [1, 5]\ninner: {rate: 0.5, kind: square}\nmany: [{size: 3}]\n"
    )
    assert outer == Outer("x", True, [1, 5], Inner(0.5, None, "square"), [Inner(size=3)])


@pytest.mark.parametrize("text", ["", "# nothing\n", "inner:\n", "{}"])
def test_what_is_left_out_has_its_default(text: str) -> None:
    assert read(text) == Outer()


@pytest.mark.parametrize("number", ["2e-5", "2.0e-5", "2E-5", "0.00002"])
def test_a_number_with_an_exponent_is_a_number_without_a_point_too(number: str) -> None:
    assert read(f"inner: {{rate: {number}}}").inner.rate == 2e-5


@pytest.mark.parametrize("text", ["1.10", "007", "1_000", "12:30", "0x1F", "1e3"])
def test_text_that_looks_like_a_number_is_kept_as_it_is_written(text: str) -> None:
    assert read(f"name: {text}").name == text
    assert read("", "--name", text).name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nonn: true", "r.yaml:2: unknown key 'onn'; did you mean 'on'?"),
        ("\ninner:\n  rat: 1", "r.yaml:3: unknown key 'rat' in inner; did you mean 'rate'?"),
        ("many:\n- {sizes: 3}", "r.yaml:2: unknown key 'sizes' in many.0; did you mean 'size'?"),
        ("zzz: 1", "r.yaml:1: unknown key 'zzz'; there are: name, on, cuts, inner, many"),
        ("on: 1", "r.yaml:1: on must be true or false, not 1"),
        ("name: [a]", "r.yaml:1: name must be text, not ['a']"),
        ("name:", "r.yaml:1: name must be text, not None"),
        ("name: true", "r.yaml:1: name must be text, not True"),
        ("inner:\n  size: 2.5", "r.yaml:2: inner.size must be a whole number, not 2.5"),
        ("inner:\n  size: yes", "r.yaml:2: inner.size must be a whole number, not True"),
        ("inner: {rate: fast}", "r.yaml:1: inner.rate must be a number, not 'fast'"),
        ("inner: {rate: .nan}", "r.yaml:1: inner.rate must be a finite number, not nan"),
        ("inner: {rate: .inf}", "r.yaml:1: inner.rate must be a finite number, not inf"),
        ("inner: {rate: 1e999}", "r.yaml:1: inner.rate must be a finite number, not inf"),
        (f"inner: {{rate: {'9' * 400}}}", "r.yaml:1: inner.rate must be a finite number"),
        ("inner: {rate: 0}", "r.yaml:1: inner.rate must be above 0, not 0.0"),
        ("inner: {rate: 1.5}", "r.yaml:1: inner.rate must be at most 1, not 1.5"),
        ("inner: {size: 1}", "r.yaml:1: inner.size must be at least 2, not 1"),
        ("cuts:\n- 1\n- 0", "r.yaml:1: cuts must be at least 1, not 0"),
        ("cuts:\n- 1\n- x", "r.yaml:3: cuts.1 must be a whole number, not 'x'"),
        ("cuts: 3", "r.yaml:1: cuts must be a list, not 3"),
        ("inner: {kind: sqare}", "r.yaml:1: inner.kind cannot be 'sqare'; did you mean 'square'?"),
        ("inner: [1]", "r.yaml:1: inner must be a mapping of keys"),
        ("name: a\non: true\nname: b", "r.yaml:3: 'name' is given twice"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: x\ninner: {rate: 1", 2),
        ("name: x\n\tinner: 1", 2),
        ("name: 'x\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("name: x\non: !!python/name:os.system x", 2),
        ("name: x\non: *nowhere", 2),
        ("name: x\non: 2026-13-45", 2),
        ("name: x\non: !!int three", 2),
        ("name: x\non: !!bool maybe", 2),
        ("name: x\non: !!timestamp now", 2),
        ("name: x\n? [a, b]\n: c", 2),
        ("name: x\non: \x00", 2),
    ],
)
def test_malformed_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    assert refusal(text).startswith((f"r.yaml:{line}: ", f"r.yaml:{line + 1}: "))


@pytest.mark.parametrize("text", ["cuts: " + "[" * 5000, "cuts: &a [*a]"])
def test_yaml_nested_without_end_is_refused(text: str) -> None:
    assert refusal(text) == "r.yaml: not valid YAML (nested without end)"


def test_an_alias_is_the_value_it_stands_for() -> None:
    assert read("inner: &i {rate: 0.5}\nmany: [*i, *i]").many == [Inner(0.5), Inner(0.5)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--inner.rate", "0.5", "--inner.size", "7"),
        ("--inner.rate=0.5", "--inner.size=7"),
        ("--inner", "{rate: 0.5, size: 7}"),
    ],
)
def test_overrides_are_put_over_the_file(arguments: tuple[str, ...]) -> None:
    assert read("inner: {kind: square, rate: 0.2}", *arguments).inner.rate == 0.5
    assert read("inner:", *arguments).inner == Inner(0.5, 7)


def test_the_last_override_counts() -> None:
    assert read("on: false", "--on", "true", "--name", "a", "--name", "b") == Outer("b", True)


def test_hyphens_in_a_flag_are_underscores() -> None:
    root = Node({}, "r")
    override(root, ["--per-device.batch-size", "3"])
    assert root.plain() == {"per_device": {"batch_size": 3}}


def test_a_number_steps_into_a_list() -> None:
    text = "cuts: [1, 5]\nmany: [{size: 3}, {size: 4}]"
    outer = read(text, "--cuts.1", "9", "--many.0.size", "8", "--many.1", "{rate: 0.5}")
    assert (outer.cuts, outer.many) == ([1, 9], [Inner(size=8), Inner(0.5)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onn", "true"], "--onn: unknown key 'onn'; did you mean 'on'?"),
        (["--inner.rate", "2"], "--inner.rate: inner.rate must be at most 1, not 2.0"),
        (["--inner.rate=x"], "--inner.rate: inner.rate must be a number, not 'x'"),
        (["--name"], "--name needs a value"),
        (["stray"], "'stray' is not an option: overrides look like --section.key value"),
        (["-s", "1"], "'-s' is not an option"),
        (["--name.x", "1"], "--name.x: 'x' is within 'n', which has no keys"),
        (["--cuts.5", "1"], "--cuts.5: '5' is not a place in a list of 1"),
        (["--cuts.x", "1"], "--cuts.x: 'x' is not a place in a list of 1"),
        (["--cuts", "[1"], "--cuts: not valid YAML"),
        (["--inner", "7"], "--inner: inner must be a mapping of keys"),
        (["--..", "7"], "--..: unknown key ''"),
    ],
)
def test_a_wrong_override_is_refused_with_its_flag(arguments: list[str], message: str) -> None:
    assert refusal("name: n\ncuts: [1]", *arguments).startswith(message)


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"42\n", b"just words\n"])
def test_a_recipe_is_a_mapping(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="a recipe is a mapping"):
        read_yaml(path)


def test_a_recipe_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    for name, reason in [("no.yaml", "no such recipe"), ("latin.yaml", "utf-8"), ("", "cannot")]:
        with pytest.raises(InputError, match=reason) as caught:
            read_yaml(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_key_is_refused_with_its_new_name(tmp_path: Path, name: str) -> None:
    section, old = name.split(".")
    path = tmp_path / "r.yaml"
    path.write_text(f"name: x\n{section}:\n  {old}: 1\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}:3: {name} is now {RENAMED[name]}")
    path.write_text("name: x\n")
    with pytest.raises(InputError) as caught:
        load_recipe(path, [f"--{name}", "1"])
    assert str(caught.value).startswith(f"--{name}: {name} is now {RENAMED[name]}")


@pytest.mark.parametrize(("name", "value"), RENAMED_VALUES)
def test_a_renamed_value_is_refused_with_its_new_name(
    tmp_path: Path, name: str, value: str
) -> None:
    section, *steps = name.split(".")
    given: Any = value
    for step in reversed(steps):
        given = [given] if step == "N" else {step: given}
    text = yaml.safe_dump(given, default_flow_style=True).strip()
    path = tmp_path / "r.yaml"
    now = f"{name.replace('.N.', '.0.')} {value} is now {RENAMED_VALUES[name, value]}"
    for written, flags, place in (
        (f"name: x\n{section}: {text}\n", [], f"{path}:2"),
        ("name: x\n", [f"--{section}={text}"], f"--{section}"),
    ):
        path.write_text(written)
        with pytest.raises(InputError) as caught:
            load_recipe(path, flags)
        assert str(caught.value) == f"{place}: {now}"


def names_in(kind: type, path: str = "") -> set[str]:
    """Dotted names of a section's keys, as far as they are no lists."""
    names = set()
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[field.name]
        names.add(f"{path}{field.name}")
        if dataclasses.is_dataclass(hint):
            names |= names_in(typing.cast(type, hint), f"{path}{field.name}.")
    return names


def test_what_a_renamed_key_or_value_became_is_there_and_it_is_not() -> None:
    names = names_in(Recipe)
    assert not names & set(RENAMED)
    assert {new.split()[0] for new in RENAMED.values()} <= names
    for (name, old), new in RENAMED_VALUES.items():
        hint: Any = Recipe
        for step in name.split("."):
            hint = typing.get_args(hint)[0] if step == "N" else typing.get_type_hints(hint)[step]
        now = yaml.safe_load(new)
        literal, *_ = typing.get_args(hint)
        choices = typing.get_args(literal) or typing.get_args(hint)
        assert (now if isinstance(now, str) else now[step]) in choices and old not in choices


def read_or_refuse(text: str) -> None:
    try:
        root = parse_yaml(text, "r.yaml", lines=True)
        assert isinstance(build(Recipe, root), Recipe)
    except InputError as error:
        assert str(error).startswith("r.yaml") and "\n" not in str(error)


@given(st.text())
def test_any_text_is_a_recipe_or_refused(text: str) -> None:
    read_or_refuse(text)


# Pieces of YAML, so that more than the outermost layer of the reader is met.
PIECES = [
    *["name", "seed", "corpus", "queries", "generators", "share", "cutoffs", "evaluation", "model"],
    *[": ", ":\n  ", ", ", "\n", "\n- ", "{", "}", "[", "]", "'", '"', "#", "|", ">", "---", "%"],
    *["1", "-1", "1e-5", ".5", "._", "0b_", "0x", "~", "null", "yes", ".nan", "9" * 400, "1:99"],
    *["2026-01-01", "2026-99-99", "&a ", "*a", "!!int ", "!!bool ", "!!binary ", "!!set ", "<<: "],
    *["!!timestamp ", "!!float ", "!x ", "? ", "= ", "\t", "\x85", "\ud800", "\ufeff", "\x07"],
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_pieces_of_yaml_are_a_recipe_or_refused(text: str) -> None:
    read_or_refuse(text)


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner),
)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), SETTINGS, max_size=4))
def test_flattening_loses_no_value(settings: dict[str, Any]) -> None:
    def leaves(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(leaves, value.values()))
        if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            return sum(map(leaves, value))
        return 1

    assert len(flatten(settings)) == leaves(settings)


def test_the_nearest_name_is_offered_or_all() -> None:
    assert nearest("mdoel", ["model", "corpus"]) == "; did you mean 'model'?"
    assert nearest("xyz", ["model", "corpus"]) == "; there are: model, corpus"


def test_the_weight_of_the_teacher_is_refused_with_the_students(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\ntriplets: {teacher_weight: 0.3}\n")
    with pytest.raises(InputError, match=r"is now teacher\.student_weight .*, here 0\.7$"):
        load_recipe(path)
