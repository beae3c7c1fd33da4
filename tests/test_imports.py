"""What import-linter cannot say: `make lint` holds the rule that an import points left."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Folders of the package at the top of the checkout, and programs: `import data` from there works,
#: and makes a second copy of `tercet.data` whose classes are other classes.
BARE = {"data", "modeling", "retrieval", "train", "eval", "app", "scripts", "benchmarks", "tests"}
PACKAGE = [
    file
    for folder in ("src/tercet", "data", "modeling", "retrieval")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if "templates" not in file.parts  # files that programs write out
]
PROGRAMS = [
    file for place in ("*.py", "scripts/*.py", "benchmarks/*.py") for file in ROOT.glob(place)
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def module_of(file: Path) -> str:
    """`data/corpus.py` -> `tercet.data.corpus`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else ("tercet", *parts)
    return ".".join(parts).removesuffix(".__init__")


def test_nothing_imports_a_folder_of_the_checkout_by_its_bare_name() -> None:
    for file in PACKAGE + PROGRAMS + TESTS:
        tops = {module.split(".")[0] for module in imports(parsed(file))}
        assert "" not in tops, f"{file}: a relative import"
        assert not tops & BARE, file


def test_the_schema_imports_the_standard_library_and_text_alone() -> None:
    tree = parsed(ROOT / "src/tercet/core/schema.py")
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    others = {*imports(tree)} - {"tercet.core.text", "tercet.core.text.message_line"}
    others |= {*imports(parsed(ROOT / "src/tercet/core/text.py"))}
    assert {module.split(".")[0] for module in others} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tercet", "torch transformers datasets faiss weaviate onnxruntime bm25s"),
        ("tercet.core.files", "torch transformers datasets pyarrow"),
        ("tercet.core.artifacts", "torch transformers datasets"),
        ("tercet.data", "torch transformers faiss weaviate"),
        ("tercet.retrieval", "torch transformers faiss weaviate onnxruntime plotly evaluate wandb"),
    ],
)
def test_what_is_not_needed_is_not_imported(module: str, absent: str) -> None:
    code = f"import sys, {module}; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    command = [sys.executable, "-c", code, *absent.split()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert result.stdout.split() == []


# One process imports every module for the sake of the libraries and forgets ours: in its fork a
# module finds nothing of the package imported before it.
ALONE = """
import contextlib, importlib, os, sys, traceback
cache, *modules = sys.argv[1:]
for module in modules:
    with contextlib.suppress(Exception):  # its fork says why
        importlib.import_module(module)
for name in [name for name in sys.modules if name.split(".")[0] == "tercet"]:
    del sys.modules[name]
sys.pycache_prefix, sys.dont_write_bytecode = cache, False  # each file compiles once
failed = []
for module in modules:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(module)
print(*failed)
"""


@pytest.mark.long
@pytest.mark.slow
def test_every_module_imports_alone(tmp_path: Path) -> None:
    """No module needs another to have been imported before it."""
    modules = sorted(map(module_of, PACKAGE))
    command = [sys.executable, "-c", ALONE, str(tmp_path), *modules]
    result = subprocess.run(command, capture_output=True, text=True, timeout=800, check=True)
    assert result.stdout.split() == [], result.stderr
