"""The lock file of the tests' environment satisfies setup.cfg, with a hash for every file."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def required() -> list[Requirement]:
    """What Tercet and its development extras ask for, extras of its own followed."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines, waiting = setup["options"]["install_requires"].split("\n"), ["dev"]
    while waiting:
        for line in extras[waiting.pop()].split("\n"):
            if line.startswith("tercet["):
                waiting += line[len("tercet[") : -1].split(",")
            else:
                lines.append(line)
    return [Requirement(line) for line in map(str.strip, lines) if line]


def test_every_requirement_is_locked_within_its_range_and_with_hashes() -> None:
    text = (ROOT / "requirements-dev.lock").read_text()
    locked = {}
    for block in re.split(r"\n(?=\S)", text):
        if found := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", block):
            locked[canonicalize_name(found[1])] = found[2]
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), found[1]
    assert len(required()) > 40
    for each in required():
        version = locked[canonicalize_name(each.name)]
        assert each.specifier.contains(version, prereleases=True), f"{each}: {version} is locked"
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text), "no host of a registry"
