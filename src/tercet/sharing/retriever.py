"""Exports a finished run's retriever as a standalone Python file with a self-test."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact
from tercet.core.files import write_file
from tercet.core.mapped import BLOCK, Vectors, by_id
from tercet.core.processes import locked
from tercet.core.schema import Index, InputError, Passage
from tercet.data.sources import PassagesWithQrels
from tercet.data.sources.weaviate import WeaviateCollection
from tercet.evaluation.systems import Systems
from tercet.modeling.encoders.pooling import modes_of
from tercet.pipeline.components import Components
from tercet.pipeline.finished import finished, served
from tercet.pipeline.pipeline import Pipeline
from tercet.sharing.hub import model_files

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection

#: The file that an exported one is made of: see `write_retriever`.
TEMPLATE = Path(__file__).parent / "templates" / "retriever.py"
_MARK = b"class TercetRetriever(BaseRetriever):"  # in every exported file
_QUERIES, _DEPTH = 10, 10  # of the self-test: test queries, and passages per query
_WIDTH = 100  # of a line
_REGION = re.compile(r"\s*# region (\w+)\n")
_END = re.compile(r"\s*# endregion\n")
_ONLY = re.compile(r"  # only: (\w+)\n")


def export_retriever(
    recipe: Recipe,
    path: Path | None = None,
    *,
    hub: str | None = None,
    revision: str | None = None,
    k: int = 10,
) -> list[Path]:
    """Write a LangChain retriever of the run's model and index; returns the paths written.

    These are `path` (default: `retriever.py` in the run's folder) and, unless a live collection has
    the texts, a folder of passages beside it. The file loads the model from the Hub (`hub`, at
    `revision`), or from a folder beside it, that of the run or a copy: it names no other place, so
    that they can be moved together. Exact and FAISS indexes become exact search.
    Raises InputError for an unfinished run and for a model behind an API.
    """
    path = path or recipe.folder / "retriever.py"
    check_exportable(recipe, path, k)
    with locked(recipe.folder):
        return export(finished(recipe), path, model=hub, revision=revision, k=k)


def check_exportable(recipe: Recipe, path: Path, k: int = 1) -> None:
    """Raises InputError, before any work, for what cannot be exported to `path`."""
    if recipe.model.api:
        raise InputError(
            f"{recipe.model.name} is behind {recipe.model.api}'s API, and an exported retriever "
            "needs a local model: use `tercet search`"
        )
    if k < 1:
        raise InputError(f"--k is {k}: it must be at least 1")
    if path.suffix != ".py":
        raise InputError(f"{path}: the name of a retriever must end in .py")
    _check_replaceable(path)


def export(
    pipeline: Pipeline,
    path: Path,
    *,
    model: str | None = None,
    revision: str | None = None,
    k: int = 10,
    exact: bool = False,
) -> list[Path]:
    """As `export_retriever`, for a pipeline whose run is finished.

    `model` is the model's folder or Hub name for the file; "./NAME" is a folder beside it. With
    `exact` the file searches exactly, over vectors beside it, for any index of the run.
    """
    made = _Export(pipeline, path, exact)
    values = made.values() | {"K": k}
    written = [path]
    if model:
        values |= {"MODEL": model, "REVISION": revision}
    elif path.parent.resolve() != pipeline.model.path.parent.resolve():
        folder = path.with_name(f"{path.stem}.model")
        copy_model(pipeline.model, folder)
        values |= {"MODEL": f"./{folder.name}"}
        written.append(folder)
    write_retriever(path, made.kinds, values)
    return [*written, *([made.folder] if values["PASSAGES"] else [])]


def copy_model(model: Artifact, folder: Path) -> None:
    """Copy the files of a run's model, and none of the run, in place of what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, file in model_files(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


class _Export:
    """The kinds of regions and the constants of one exported file."""

    def __init__(self, pipeline: Pipeline, path: Path, exact: bool) -> None:
        self.pipeline, self.recipe = pipeline, pipeline.recipe
        self.folder = path.with_name(f"{path.stem}.passages")
        # The file encodes in float32: single queries need no half precision.
        precise = replace(self.recipe, model=replace(self.recipe.model, precision="fp32"))
        encoder = Components(precise).adapted(pipeline.model.path)
        assert isinstance(encoder, modeling.BiEncoder)
        if encoder.config.static:
            raise InputError(
                f"{self.recipe.model.name} is a table of token vectors (StaticEmbedding), which an "
                "exported retriever does not load: use `tercet search`"
            )
        self.encoder = encoder
        live = self.recipe.index.backend == "weaviate" and not exact
        self.kinds = {"weaviate" if live else "exact"}
        if encoder.space or "weaviate" in self.kinds:
            self.kinds.add("space")

    def values(self) -> dict[str, Any]:
        """The template's constants by name. Writes the passages' folder."""
        config, folder = self.encoder.config, self.pipeline.model.path
        values = {
            "RUN": self.recipe.name,
            "MODEL": f"./{folder.name}",
            "QUERY_PROMPT": config.query_prompt,
            "LOWER_CASE": config.lower_case,
            "MAX_LENGTH": config.query_max_length,
            "MODEL_CLASS": type(self.encoder.backbone).__name__,
            "TOKEN_TYPES": self.encoder.has_segments,
            "POOLING": modes_of(config.pooling),
            "SKIPPED": self.encoder.skipped("query"),
            "LAYERS": [
                (layer.kind, f"{i}_{layer.kind}", layer.activation, layer.residual)
                for i, layer in enumerate(config.layers, 2)
            ],
            "DIMENSIONS": config.truncate_dim,
            "SIMILARITY": config.similarity,
            "PASSAGES": self.folder.name,
        }
        if "space" in self.kinds:
            values["SPACE"] = "model" if self.encoder.space else "passages"
        return values | (self._exact() if "exact" in self.kinds else self._weaviate())

    def _exact(self) -> dict[str, Any]:
        pipeline = self.pipeline
        queries = pipeline.split("test")[0]
        systems = Systems(pipeline, [SystemSettings(kind="adapted")], queries)
        vectors = systems["adapted"].encoded[0].vectors
        write_passages(self.folder, pipeline.passages, pipeline.passages.ids, vectors)
        index = retrieval.ExactIndex()
        index.build(pipeline.passages.ids, vectors)
        return {"EXPECTED": self._expected(index)}

    def _weaviate(self) -> dict[str, Any]:
        section, index = served(self.pipeline)
        try:
            texts = self._texts_there(index)
            if not any(texts.values()):
                passages = self.pipeline.passages
                write_passages(self.folder, passages, passages.ids, None)
                if not self.encoder.space:
                    self._sample(index, str(section.collection)).save(self.folder)
            return {
                "COLLECTION": section.collection,
                "VECTOR": index.vector,
                "VECTOR_IS_NAMED": index.named,
                "ID_PROPERTY": index.id_property,
                "ID_IS_NUMBER": index.numbered,
                "DISTANCE": index.metric,
                "MOST": index.most,
                "EXPECTED": self._expected(index),
                **texts,
                **({"PASSAGES": None} if any(texts.values()) else {}),
            }
        finally:
            index.discard()

    def _texts_there(self, index: LiveCollection) -> dict[str, str | None]:
        """The properties with texts and titles if the collection is also the corpus, else None."""
        source = self.pipeline.components.source
        corpus = source.source if isinstance(source, PassagesWithQrels) else None
        if not isinstance(corpus, WeaviateCollection) or corpus.reader.name != index.name:
            return {"TEXT_PROPERTY": None, "TITLE_PROPERTY": None}
        return {"TEXT_PROPERTY": corpus.text, "TITLE_PROPERTY": corpus.title or None}

    def _sample(self, index: LiveCollection, name: str) -> modeling.VectorSpace:
        """A sample of the collection's vectors, to detect another collection under its alias."""
        ids, similarity = self.pipeline.passages.ids, self.encoder.similarity
        rows = np.random.default_rng(0).permutation(len(ids))[:_QUERIES]
        sample = [ids[row] for row in rows.tolist()]
        place = f"Weaviate collection {name}"
        return modeling.VectorSpace(sample, index.vectors_of(sample), similarity, len(ids), place)

    def _expected(self, index: Index) -> list[tuple[str, list[tuple[str, float]]]]:
        """Some test queries with the passages and scores that the run's model and index find."""
        queries = self.pipeline.split("test")[0]
        rows = np.random.default_rng(0).permutation(len(queries))[:_QUERIES]
        texts: Sequence[str] = [queries[row].text for row in sorted(rows.tolist())]
        rankings = index.search(self.encoder.encode_queries(texts), _DEPTH)
        return [
            (text, [(id, round(score, 6)) for id, score in ranking])
            for text, ranking in zip(texts, rankings, strict=True)
        ]


def _check_replaceable(path: Path) -> None:
    """Raises InputError if another file than a retriever would be overwritten."""
    if path.exists() and _MARK not in path.read_bytes():
        raise InputError(f"{path} exists and is no retriever: give another name with --out")


def write_retriever(path: Path, kinds: Collection[str], values: Mapping[str, Any]) -> None:
    """Write the template's regions for `kinds`, with its constants set to `values` by name.

    Values are None, booleans, numbers, strings, and lists and tuples of them. Any string is written
    as a string literal and cannot become code. Raises KeyError for a constant that the template
    lacks, and InputError if another file than a retriever would be overwritten.
    """
    _check_replaceable(path)
    source = _fill(_parts(TEMPLATE.read_text(encoding="utf-8"), kinds), values)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, source.encode())


def write_passages(
    folder: Path, passages: Sequence[Passage], ids: Sequence[str], vectors: Vectors | None
) -> None:
    """Write a folder of passages, and of vectors float32 [passages, dimension] if given.

    Sorted by id: `passages.jsonl` with id, title and text, `ends.npy` with the byte offset of each
    line's end, `vectors.npy`. The folder is replaced when the new one is complete.
    """
    partial, order = folder.with_name(folder.name + ".partial"), by_id(ids)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ends, end = np.empty(len(order), np.int64), 0
    with (partial / "passages.jsonl").open("wb") as file:
        for place, row in enumerate(order.tolist()):
            passage = passages[row]
            line = {"id": passage.id, "title": passage.title, "text": passage.text}
            end += file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            ends[place] = end
    np.save(partial / "ends.npy", ends)
    if vectors is not None:
        with (partial / "vectors.npy").open("wb") as file:
            shape = (len(order), vectors.shape[1])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(order), BLOCK):
                block = vectors[order[start : start + BLOCK]]
                file.write(block.astype("<f4", copy=False).tobytes())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _parts(template: str, kinds: Collection[str]) -> str:
    """The template without the regions of other kinds and without the region comments."""
    kept, inside = [], []
    for line in template.splitlines(keepends=True):
        if region := _REGION.fullmatch(line):
            inside.append(region[1])
        elif _END.fullmatch(line):
            inside.pop()
        else:
            only = _ONLY.search(line)
            if {*inside, *([only[1]] if only else [])} <= set(kinds):
                kept.append(_ONLY.sub("\n", line))
    return "".join(kept)


def _fill(source: str, values: Mapping[str, Any]) -> str:
    """The module's source with its top-level constants set to `values` by name."""
    lines = source.splitlines()
    constants = {
        ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target): node
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign | ast.Assign)
    }
    # From the end, so that earlier line numbers stay valid.
    for name in sorted(values, key=lambda name: -constants[name].lineno):
        node = constants[name]
        assert node.value is not None and node.end_lineno is not None
        before = lines[node.lineno - 1][: node.value.col_offset]
        lines[node.lineno - 1 : node.end_lineno] = [before + literal(values[name], len(before))]
    return "\n".join(lines) + "\n"


def literal(value: Any, column: int = 0, indent: int = 0, after: int = 0) -> str:
    """Python source of a value that begins at `column`, in lines of up to 100 characters.

    `indent` is the indentation of the line, `after` the number of characters after the value.
    """
    flat = _flat(value)
    if column + len(flat) + after <= _WIDTH:
        return flat
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, str):
        pieces = _pieces(value, _WIDTH - indent - 6)
        if len(pieces) == 1:
            return flat
        return "(\n" + "".join(f"{inner}{_quoted(piece)}\n" for piece in pieces) + f"{outer})"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        items = (literal(item, indent + 4, indent + 4, 1) for item in value)
        return opening + "\n" + "".join(f"{inner}{item},\n" for item in items) + outer + closing
    return flat


def _flat(value: Any) -> str:
    """A value's source on one line."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise TypeError(f"a constant of a retriever cannot be a {type(value).__name__}")


def _quoted(text: str) -> str:
    """A string's source, in the quotes that need fewer escapes."""
    # With a double quote in the text, repr uses single quotes and escapes single quotes only.
    body = repr('"' + text)[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{body}'"
    return '"' + body.replace("\\'", "'").replace('"', '\\"') + '"'


def _pieces(text: str, width: int) -> list[str]:
    """The text in pieces whose source has at most `width` characters, cut after spaces if any."""
    pieces, start = [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and len(_quoted(text[start : end + 1])) <= width:
            end += 1
        space = text.rfind(" ", start, end)
        if end < len(text) and space > start:
            end = space + 1
        pieces.append(text[start:end])
        start = end
    return pieces
