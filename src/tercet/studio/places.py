"""The project's recipes and runs by name, and the checks on values from the page.

Anyone who reaches the page can send any value. Names are looked up among the existing ones, and
values that lead out of the project, or to a machine's own services, are refused.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tercet.core.schema import InputError

_RECIPES, _RUNS = "recipes", "runs"
#: A folder with one of these is a run.
_MARKS = ("corpus", "recipe.yaml", "metrics.json", "forecast.json", "studio")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RECENT = 30  # runs listed by name on the page: a browser is slow with hundreds of choices
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):(?=//|/)")


class Places:
    """The folders of one project."""

    def __init__(self, root: Path) -> None:
        """`root` holds `recipes/` and `runs/`."""
        self.root = root.resolve()

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.root / _RUNS

    def recipes(self) -> list[str]:
        """Recipe paths relative to the project: its own, then those of the runs in `recent`."""
        found = sorted((self.root / _RECIPES).glob("*.yaml"))
        found += [self.runs / name / "recipe.yaml" for name in self.recent()]
        inside = [path for path in found if path.is_file() and self._plain(path)]
        return [path.relative_to(self.root).as_posix() for path in inside]

    def recipe(self, name: str | None) -> Path:
        """The path of a recipe of the project, or of any run. Raises InputError for any other."""
        path = self.root / (name if isinstance(name, str) else "")
        own = path.parent == self.root / _RECIPES and path.suffix == ".yaml"
        of_run = path.name == "recipe.yaml" and path.parent.parent == self.runs
        if not (own or of_run) or not self._plain_file(path):
            raise InputError(f"{name!r} is no recipe of this project" if name else "no recipe yet")
        return path

    def recipe_of_run(self, name: str) -> str:
        """The path of a run's recipe relative to the project, as `recipe` takes it."""
        return (self.run(name) / "recipe.yaml").relative_to(self.root).as_posix()

    def new_recipe(self, name: str) -> Path:
        """The path for a new recipe. Raises InputError for a path as name, or a name in use."""
        name = check_name(name.removesuffix(".yaml"), "a recipe")
        path = self.root / _RECIPES / f"{name}.yaml"
        if path.exists() or path.is_symlink():
            raise InputError(f"{_RECIPES}/{name}.yaml exists already: choose another name")
        return path

    def recent(self) -> list[str]:
        """Names of the runs that changed last, the newest first."""
        return [folder.name for folder in self.run_folders()[:RECENT]]

    def run(self, name: str | None) -> Path:
        """The folder of a run. Raises InputError for any other name."""
        if (folder := self.find(name)) is None:
            raise InputError(f"{name!r} is no run of this project" if name else "no run is chosen")
        return folder

    def find(self, name: object) -> Path | None:
        """The folder of a run; None for any other value that the page may send."""
        if not isinstance(name, str) or not name or Path(name).name != name:
            return None
        folder = self.runs / name
        return folder if _marked(folder) and self._plain(folder) else None

    def run_folders(self) -> list[Path]:
        """Every run's folder, the one that changed last first."""
        if not self.runs.is_dir() or not self._plain(self.runs):
            return []
        folders = [path for path in self.runs.iterdir() if not path.is_symlink() and _marked(path)]
        return sorted(folders, key=_changed, reverse=True)

    def _plain_file(self, path: Path) -> bool:
        try:
            return path.is_file() and self._plain(path)
        except OSError:
            return False

    def _plain(self, path: Path) -> bool:
        """Whether a path below the root contains no symbolic link."""
        return path.resolve() == path

    def check_value(self, value: Any, where: str) -> None:
        """Raise InputError for a field's value that leads out of the project.

        Refused are parent folders and other users' homes, absolute paths, symbolic links out of
        the project, schemes other than http and https, and link-local addresses, at which cloud
        machines serve their own credentials.
        """
        if isinstance(value, dict):
            for key, inner in value.items():
                self.check_value(key, where)
                self.check_value(inner, where)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.check_value(inner, where)
        elif isinstance(value, str):
            self._check_text(value, where)

    def _check_text(self, text: str, where: str) -> None:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        refused = InputError(f"{where}: {shown!r} leads out of this project: the page takes none")
        scheme = _SCHEME.match(text)
        if scheme:
            if scheme[1].lower() not in ("http", "https"):
                raise InputError(f"{where}: {shown!r}: only http and https addresses are taken")
            if _link_local(urlsplit(text.strip()).hostname or ""):
                raise InputError(f"{where}: {shown!r} is an address of this machine's own services")
            return
        parts = re.split(r"[/\\]", text.strip())
        if "\0" in text or ".." in parts or parts[0].startswith("~"):
            raise refused
        if len(parts) > 1 and (parts[0] == "" or re.fullmatch("[A-Za-z]:", parts[0])):
            raise refused
        try:
            within = (self.root / text.strip()).resolve().is_relative_to(self.root)
        except (OSError, ValueError, RuntimeError):
            return  # too long to be a path, or a loop of links that leads nowhere
        if not within:
            raise refused


def _marked(folder: Path) -> bool:
    """Whether a folder contains a file or folder that marks a run."""
    return any(os.path.exists(f"{folder}/{mark}") for mark in _MARKS)


def _changed(folder: Path) -> float:
    """Modification time of a folder; 0 if it was deleted meanwhile."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name one folder or file; else raise InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name {what}: letters, digits, '.', '_' and '-' can")
    return name


def _link_local(host: str) -> bool:
    """Whether a host is a link-local address, in any notation that a C library accepts."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))
        except OSError:
            return host.rstrip(".").lower() == "metadata.google.internal"
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_link_local or bool(mapped and mapped.is_link_local)
