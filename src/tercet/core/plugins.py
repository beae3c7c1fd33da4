"""Plug-ins: a user's object where a recipe names a built-in kind.

A plug-in is named `package.module:Name`, or registered by its distribution as an entry point of
the group `tercet.KIND`, such as `tercet.losses`; the entry point's name is then the name. Its
identity, a digest of the code, is part of what the steps that use it depend on.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.core.files import digest, file_sha256
from tercet.core.schema import Generator, Index, InputError, PassageSource, Retriever, Teacher
from tercet.core.text import error_text

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Kind:
    """What a plug-in of one kind is.

    `arguments` are those that it is called with, before its options. With a `protocol` the call
    makes an object that keeps it; without one the plug-in is itself the function that is used.
    """

    noun: str
    arguments: tuple[str, ...] = ()
    protocol: type | None = None


#: By the last part of the entry points' group.
KINDS = {
    "losses": Kind("loss", ("student", "target", "mask")),
    "generators": Kind("generator", (), Generator),
    "teachers": Kind("teacher", (), Teacher),
    "retrievers": Kind("retriever", ("passages",), Retriever),
    "indexes": Kind("index", (), Index),
    "sources": Kind("source", (), PassageSource),
    "systems": Kind("system", ("passages",), Retriever),
    "metrics": Kind("metric", ("graded", "k")),
}


def is_plugin(group: str, name: object) -> bool:
    """Whether a name that is no built-in one is a plug-in's, by its form or its entry point."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name) or name in registered(group))


def registered(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of a group by their names."""
    return {each.name: each for each in importlib.metadata.entry_points(group=f"tercet.{group}")}


def load(group: str, name: str) -> Any:
    """The object of that name.

    Raises InputError for a module that cannot be imported, an object that it has not, and one that
    lacks methods of its kind's protocol.
    """
    module_name, _, attribute = _path(group, name).partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module's own code may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise InputError(
                f"plug-in {name}: there is no module {missing}: install its package, or name the "
                "folder that holds it in PYTHONPATH"
            ) from None
        raise InputError(
            f"plug-in {name}: {module_name} cannot be imported ({type(error).__name__}: "
            f"{error_text(error)})"
        ) from error
    if (found := getattr(module, attribute, None)) is None:
        raise InputError(f"plug-in {name}: {module_name} has no {attribute}")
    kind = KINDS[group]
    if not callable(found):
        raise InputError(f"plug-in {name} is no {kind.noun}: it cannot be called")
    if isinstance(found, type):
        if not kind.protocol:
            raise InputError(
                f"plug-in {name} is a class: a {kind.noun} is a function of "
                f"({', '.join(kind.arguments)})"
            )
        _check_members(name, kind, found, methods_alone=True)
    return found


def check(group: str, name: str, options: Mapping[str, Any], *further: str) -> None:
    """Load it, and see that it takes its arguments, `further` ones too, and the options.

    Raises InputError, as `load` does too.
    """
    _bind(name, load(group, name), (*KINDS[group].arguments, *further), options)


def make(group: str, name: str, options: Mapping[str, Any], *arguments: Any) -> Any:
    """What the plug-in is used as: the object that it makes, or a function with its options."""
    check(group, name, options, *map(str, range(len(KINDS[group].arguments), len(arguments))))
    found = load(group, name)
    if not KINDS[group].protocol:
        return functools.partial(found, **options)
    made = found(*arguments, **options)
    _check_members(name, KINDS[group], made)
    return made


def identity(group: str, name: str) -> str:
    """The plug-in's object, its distribution with version, and a digest of its code.

    The digest is over every file of the top package of the module that is named, and of the one
    that the object is defined in, but for bytecode and hidden files. A process computes it once.
    """
    return _identity(load(group, name), _path(group, name))


def _path(group: str, name: str) -> str:
    """`package.module:Name` of a plug-in. Raises InputError for a name that is none's."""
    if _NAME.fullmatch(name):
        return name
    if (entry := registered(group).get(name)) is None:
        raise InputError(f"{name!r} is no built-in {KINDS[group].noun} and no plug-in")
    return f"{entry.module}:{entry.attr}"


@functools.cache
def _identity(found: Any, path: str) -> str:
    # By the object, so that a module that was imported anew is read anew.
    modules = path.partition(":")[0], getattr(found, "__module__", None) or path
    tops = dict.fromkeys(re.split("[.:]", each)[0] for each in modules)
    versions = []
    for top in tops:
        for owner in importlib.metadata.packages_distributions().get(top, [])[:1]:
            versions.append(f"{owner} {importlib.metadata.version(owner)}")
    if not (files := [each for top in tops for each in _files(top)]):
        raise InputError(f"plug-in {path}: its code is in no file: put it into a module")
    code = digest(files)
    return f"{path} of {', '.join(versions) or 'no distribution'}, sha256 {code}"


def _files(top: str) -> Iterator[tuple[str, str]]:
    """Each file of a top package, or a single module's one, with its SHA-256; in order."""
    module = sys.modules[top]
    for folder in sorted(getattr(module, "__path__", ())):
        for place, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(n for n in folders if n[0] != "." and n != "__pycache__")
            for name in sorted(n for n in names if n[0] != "." and not n.endswith(".pyc")):
                file = Path(place, name)
                yield f"{top}/{file.relative_to(folder).as_posix()}", file_sha256(file)
    if not hasattr(module, "__path__") and getattr(module, "__file__", None):
        yield top, file_sha256(Path(str(module.__file__)))


def _bind(name: str, found: Any, arguments: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse options that it does not take. `arguments` are the names of those before them."""
    try:
        inspect.signature(found).bind(*arguments, **options)
    except TypeError as error:
        given = ", ".join((*arguments, *options))
        raise InputError(f"plug-in {name} does not take ({given}): {error_text(error)}") from None
    except ValueError:
        pass  # some compiled objects tell no signature


def _check_members(name: str, kind: Kind, found: Any, *, methods_alone: bool = False) -> None:
    """Refuse an object without its protocol's members; a class may give its instances more."""
    members = {
        member: value
        for base in (kind.protocol or object).__mro__
        for member, value in vars(base).items()
        if not member.startswith("_") and not (methods_alone and isinstance(value, property))
    }
    if lacking := [member for member in members if not hasattr(found, member)]:
        raise InputError(
            f"plug-in {name} is no {kind.noun}: it has no {', '.join(lacking)} "
            f"(tercet.core.schema.{(kind.protocol or object).__name__})"
        )
