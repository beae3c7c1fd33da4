"""Search with several runs' systems side by side, timed; and chat with a run's passages.

A loaded system is kept in memory until its run is evaluated again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from tercet.config.evaluation import SystemSettings
from tercet.core.schema import InputError, Passage
from tercet.evaluation.systems import Systems
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import RunSearch
from tercet.studio.compare import ships_base
from tercet.studio.runs import recipe_of

if TYPE_CHECKING:
    from tercet.serving.chat import Chat

_ADAPTED, _BASE, _BM25 = "adapted", "base", "BM25"
_KEPT = 8  # systems and chats: each has a model and may have a corpus's vectors
_Hits = list[tuple[Passage, float]]


@dataclass(frozen=True)
class Answer:
    """One system's hits with scores, its index and its time; or the reason why it has none."""

    system: str
    hits: tuple[tuple[Passage, float], ...] = ()
    place: str = ""
    milliseconds: float = 0.0
    refusal: str = ""


class _Searches(Protocol):
    place: str

    def search(self, question: str, k: int) -> _Hits: ...


class _Keywords:
    """Keyword search over a run's passages."""

    def __init__(self, pipeline: Pipeline) -> None:
        systems = Systems(pipeline, [SystemSettings(kind="bm25")], [])
        self._passages, self._retriever = pipeline.passages, systems["bm25"].retriever({})
        self.place = f"{len(self._passages):,} passages"

    def search(self, question: str, k: int) -> _Hits:
        (ranking,) = self._retriever.search([question], k)
        rows = self._passages.rows(id for id, _ in ranking)
        return [(self._passages[rows[id]], score) for id, score in ranking]


_T = TypeVar("_T")


class Searchers:
    """The runs' systems and chats, loaded at first use; one searches at a time."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, ...], tuple[float, object]] = {}
        self._lock = RLock()

    def systems_of(self, run: Path) -> list[str]:
        """Names of the systems of a run that can search: none before it is finished."""
        whole = (run / "recipe.yaml").exists() and _made(run)
        if not whole:
            return []
        return [_BASE, _BM25] if ships_base(run) else [_ADAPTED, _BASE, _BM25]

    def search(self, query: str, of: Sequence[tuple[Path, str]], k: int) -> list[Answer]:
        """The `k` best passages of each (run, one of its `systems_of`), in that order."""
        answers = []
        for run, system in of:
            label = f"{run.name}: {system}"
            try:
                with self._lock:
                    answers.append(self._answer(label, run, system, query, k))
            except InputError as error:
                answers.append(Answer(label, refusal=str(error)))
        return answers

    def must_load(self, run: Path, system: str) -> bool:
        """Whether a system has to be loaded before it answers."""
        kept = self._loaded.get((str(run), system))
        return system in self.systems_of(run) and (kept is None or kept[0] != _made(run))

    def _answer(self, label: str, run: Path, system: str, query: str, k: int) -> Answer:
        if system not in self.systems_of(run):
            raise InputError(f"{run.name} has no {system} to search yet")
        searcher = self._searcher(run, system)
        start = time.perf_counter()
        hits = tuple(searcher.search(query, k))
        return Answer(label, hits, searcher.place, 1e3 * (time.perf_counter() - start))

    def _searcher(self, run: Path, system: str) -> _Searches:
        def load() -> _Searches:
            pipeline = finished(recipe_of(run))
            return _Keywords(pipeline) if system == _BM25 else RunSearch(pipeline, system)

        return self._kept(run, (system,), load)

    def _kept(self, run: Path, kind: tuple[str, ...], load: Callable[[], _T]) -> _T:
        key, made = (str(run), *kind), _made(run)
        if key in self._loaded and self._loaded[key][0] != made:
            self._forget(key)
        if key not in self._loaded:
            self._loaded[key] = made, load()
        self._loaded[key] = self._loaded.pop(key)  # the one used last is forgotten last
        while len(self._loaded) > _KEPT:
            self._forget(next(iter(self._loaded)))
        return cast(_T, self._loaded[key][1])

    def _forget(self, key: tuple[str, ...]) -> None:
        _, loaded = self._loaded.pop(key)
        if close := getattr(loaded, "close", None):
            close()

    def chat(self, run: Path, options: Sequence[str]) -> Chat:
        """A finished run's chat; `options` override its recipe's `chat` section."""
        from tercet.serving.chat import Chat

        with self._lock:
            if not self.systems_of(run):
                raise InputError(f"{run.name} is not finished: it cannot answer yet")
            kind = ("chat", *options)
            for key in [k for k in self._loaded if k[1] == "chat" and k != (str(run), *kind)]:
                self._forget(key)  # one language model at a time
            recipe = recipe_of(run, options)
            return self._kept(run, kind, lambda: Chat.of(recipe))


def _made(run: Path) -> float:
    """When a run was evaluated, as a modification time; 0 before."""
    manifest = run / "evaluation" / "manifest.json"
    return manifest.stat().st_mtime if manifest.exists() else 0.0
