"""Who may import whom, and that every public name says what it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "modeling", "retrieval")
HALL = sorted((ROOT / "src" / "tercet").glob("*.py"))
ROOM_FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
STUDIO = sorted((ROOT / "src" / "tercet" / "studio").glob("*.py"))
PACKAGE = HALL + ROOM_FILES + STUDIO
PROGRAMS = [ROOT / f"{name}.py" for name in ("train", "eval", "app")]
PROGRAMS += sorted((ROOT / "scripts").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: Library -> the files of the package that may import it; a folder stands for all its files.
ONLY_IN = {
    "torch": ["modeling"],
    "accelerate": ["modeling"],
    "safetensors": ["modeling"],
    "huggingface_hub": ["modeling", "data/sources/hub.py"],
    "transformers": ["modeling", "src/tercet/cli.py"],
    "weaviate": [f"retrieval/weaviate_{part}.py" for part in ("client", "collection")],
    "grpc": ["retrieval/weaviate/server.py"],
    "faiss": ["retrieval/faiss_index.py"],
    "bm25s": ["retrieval/bm25.py"],
    "Stemmer": ["retrieval/bm25.py"],
    "onnxruntime": ["modeling/cross_encoder.py"],
    "ctranslate2": ["modeling/generators/ct2.py"],
    "bs4": ["data/sources/documents.py"],
    "pypdf": ["data/sources/documents.py"],
    "semantic_text_splitter": ["data/sources/documents.py"],
    "cohere": ["modeling/encoders/cohere.py"],
    "plotly": ["src/tercet/reports/page/plots.py"],
    "evaluate": ["retrieval/evaluate_metric.py"],
    "jinja2": ["src/tercet/reports/page/page.py"],
    "threadpoolctl": ["retrieval/exact_index.py"],
    "playwright": [],
    "wandb": ["src/tercet/sharing/wandb.py"],
    "gradio": [],  # but in app.py
    "psutil": ["src/tercet/studio/runs.py"],
    # And in src/tercet/sharing/templates, which is written out and not imported.
    "langchain_core": ["src/tercet/serving/chat.py"],
    "langchain_openai": ["src/tercet/serving/openai_endpoint.py"],
    "openai": ["src/tercet/serving/openai_endpoint.py"],
    "sentence_transformers": [],
    "onnx": [],
    "ir_measures": [],
}


#: Modules of the hall that put rooms together.
KNOW_ROOMS = (
    *("pipeline", "parts", "systems", "experiment", "outcome"),
    *("adapter_trial", "latency_queries", "run_report", "teacher_audit", "tracking", "ingest"),
    *("query_side", "given_vectors", "live_retriever", "card", "sharing", "retriever_export"),
    *("run_search", "chat", "tracked_rows", "space", "space_texts"),
    # What the forecast stands on.
    *("calibration", "counts", "plan", "reading", "sampled", "small_run", "writing_trial"),
)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)}:{node.lineno}: a relative import"
            module = node.module or ""
            yield module, node.lineno
            # `from tercet import data` names a room as well as `import tercet.data`.
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "tercet" and len(parts) > 1 and parts[1] in ROOMS else None


def allowed(file: Path, places: list[str]) -> bool:
    return any(name(file) == place or name(file).startswith(f"{place}/") for place in places)


@pytest.mark.parametrize("file", PACKAGE + PROGRAMS, ids=name)
def test_imports_keep_to_the_plan(file: Path) -> None:
    own = name(file).split("/")[0] if file in ROOM_FILES else None
    knows_rooms = file in PROGRAMS + STUDIO or file.stem in KNOW_ROOMS
    for module, line in imports(file):
        place, top = f"{name(file)}:{line}", module.split(".")[0]
        assert top not in ROOMS, f"{place}: a bare {top} is a second, unequal copy of tercet.{top}"
        assert top not in ("train", "eval", "scripts", "tests"), f"{place}: imports a program"
        if file in PACKAGE and top in ONLY_IN:
            assert allowed(file, ONLY_IN[top]), f"{place}: {top} is not imported here"
        if module.startswith("tercet.studio"):
            assert file in STUDIO or file.stem == "app", f"{place}: the studio is app.py's"
        if room(module) and not knows_rooms:
            assert room(module) == own, f"{place}: {own or 'the hall'} does not know {module}"
        if own and module.startswith(
            ("tercet.pipeline.pipeline", "tercet.pipeline.components", "tercet.cli")
        ):
            raise AssertionError(f"{place}: a room does not know the pipeline")


@pytest.mark.parametrize("file", TESTS, ids=name)
def test_tests_import_the_installed_rooms(file: Path) -> None:
    assert not {module.split(".")[0] for module, _ in imports(file)} & {*ROOMS, "train", "eval"}


def test_the_vocabulary_imports_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "src/tercet/core/schema.py").read_text(encoding="utf-8"))
    # What is for type checkers alone is not imported when it runs.
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    tops = {
        module.split(".")[0]
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert tops <= sys.stdlib_module_names


def test_a_room_has_one_level_but_for_sources() -> None:
    folders = {name(file.parent) for file in ROOM_FILES}
    assert folders == {*ROOMS, "data/sources"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tercet", "torch transformers datasets faiss weaviate onnxruntime bm25s"),
        ("tercet.core.artifacts", "torch transformers datasets"),
        ("tercet.data", "torch transformers faiss weaviate"),
        ("tercet.retrieval", "torch transformers faiss weaviate onnxruntime plotly evaluate wandb"),
    ],
)
def test_what_is_not_needed_is_not_imported(module: str, absent: str) -> None:
    code = f"import sys, {module}; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    command = [sys.executable, "-c", code, *absent.split()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.split() == []


def without_docstring(node: ast.AST, path: str) -> Iterator[str]:
    """Public modules, classes, functions and methods that say nothing of themselves."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented):
        if not ast.get_docstring(node) and not path.endswith("__init__"):
            yield path
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in node.body:
                inner = getattr(child, "name", "_")
                if not inner.startswith("_"):
                    yield from without_docstring(child, f"{path}.{inner}")


@pytest.mark.parametrize("file", PACKAGE + PROGRAMS, ids=name)
def test_every_public_name_has_a_docstring(file: Path) -> None:
    assert list(without_docstring(ast.parse(file.read_text(encoding="utf-8")), file.stem)) == []
