"""What a step declares that it reads, and the views of a run that refuse everything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from tercet.config.recipe import Recipe

#: Recipe keys with which a model is read, by the model's role: they change what it computes.
#: `unrecorded` keys only say where it is: its identity is a digest of its files.
MODEL_KEYS = {
    "base": (
        *("model.pooling", "model.similarity", "model.query_prompt", "model.passage_prompt"),
        *("model.max_length", "model.query_max_length", "model.precision"),
        *("model.query_request", "model.passage_request"),
    ),
    "teacher": (
        *("teacher.backend", "teacher.max_length", "teacher.precision", "teacher.options"),
        *("teacher.format", "teacher.instruction", "teacher.label", "teacher.answers"),
    ),
}
MODEL_PLACES = {
    "base": (
        *("model.name", "model.revision", "model.api", "model.dollars"),
        *("model.endpoint", "model.key_variable", "model.dollars_per_million_tokens"),
        *("model.frozen", "model.given", "model.adapter"),
    ),
    "teacher": (
        *("teacher.name", "teacher.revision", "teacher.api", "teacher.endpoint"),
        *("teacher.key_variable", "teacher.dollars", "teacher.dollars_per_1000_searches"),
    ),
}
#: Keys of a generator that change no query: what an API costs, and how fast it is asked.
_OF_ITS_COST = (
    *("dollars", "tokens", "dollars_per_million_read", "dollars_per_million_written"),
    *("concurrency", "requests_per_minute", "key_variable"),
)
#: Keys of a generator that most do not have.
_OF_AN_ENDPOINT = ("endpoint", "api", "judge", "request")


#: Keys that are in no manifest where the teacher's folder decides.
_OF_FOLDER = ("teacher.format", "teacher.instruction", "teacher.label", "teacher.answers")


class UndeclaredInput(Exception):
    """A step reads what it does not declare in `needs`: its manifest would not know of it."""


@dataclass(frozen=True)
class Needs:
    """Everything that a step reads. Its manifest is computed from this, and nothing else is read.

    `artifacts` are names of earlier steps, or `step/shards` for one group of a step's shards.
    `models` are roles: "base", "teacher", "generators", "retrievers". `sources` lie outside the
    run: "corpus", "passage_vectors", "live_metric" (how the live index compares), and
    "retriever NAME", one model. `keys` are dotted names of recipe keys, sections or properties of
    `Recipe`. A change of any of these makes the step again, and so does a change of the code of a
    plug-in that they name.

    `unrecorded_artifacts` and `unrecorded_keys` are read too, but change no result of the step:
    where it logs, how many checkpoints it keeps, test queries that are measured and choose nothing.
    """

    artifacts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    unrecorded_artifacts: tuple[str, ...] = ()
    unrecorded_keys: tuple[str, ...] = ()

    @property
    def recorded_keys(self) -> tuple[str, ...]:
        """Recipe keys whose values are in the manifest, those of the models among them."""
        of_models = (key for role in self.models for key in MODEL_KEYS.get(role, ()))
        return (*self.keys, *of_models)

    @property
    def readable_keys(self) -> tuple[str, ...]:
        """Recipe keys that the step may read."""
        return (*self.recorded_keys, *self.unrecorded_keys, *self._places)

    @property
    def naming_keys(self) -> tuple[str, ...]:
        """Recipe keys whose values may name a plug-in that the step depends on."""
        return (*self.recorded_keys, *self._places, *({"corpus"} & set(self.sources)))

    @property
    def _places(self) -> tuple[str, ...]:
        return tuple(key for role in self.models for key in MODEL_PLACES.get(role, ()))

    @property
    def readable_artifacts(self) -> tuple[str, ...]:
        """Artifacts, or groups of their shards, that the step may read."""
        return (*self.artifacts, *self.unrecorded_artifacts)

    @property
    def steps(self) -> list[str]:
        """Names of the steps whose artifacts it reads, each once."""
        return list(dict.fromkeys(name.partition("/")[0] for name in self.readable_artifacts))


class RecipeView:
    """A recipe of which only declared keys can be read. Raises UndeclaredInput for any other."""

    def __init__(self, value: Any, keys: Iterable[str], step: str, path: str = "") -> None:
        self._value, self._keys, self._step, self._path = value, frozenset(keys), step, path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if path in self._keys:
            return getattr(self._value, name)
        if any(key.startswith(f"{path}.") for key in self._keys):
            return RecipeView(getattr(self._value, name), self._keys, self._step, path)
        raise UndeclaredInput(f"step {self._step} reads {path} and does not declare it")


def key_value(recipe: Recipe, key: str) -> Any:
    """The JSON value of a recipe key, of a section, or of a property or method of one.

    A section without options of a plug-in is what it was before there were plug-ins.
    """
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    value = value() if callable(value) else value
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    """A section without what it does not have: a model's number format, a plug-in's options."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return asdict(value, dict_factory=_present)


def _present(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = {k: v for k, v in pairs if not unset(k, v) and (k, v) != ("precision", "auto")}
    lacking = {k for k, v in plain.items() if k in _OF_AN_ENDPOINT and not v}
    return {k: v for k, v in plain.items() if k not in lacking and k not in _OF_ITS_COST}


def unset(key: str, value: Any) -> bool:
    """Whether a key is in no manifest: empty options and requests, or what a folder decides."""
    if key in _OF_FOLDER:
        return value in (None, "auto")
    names = ("options", "query_request", "passage_request")
    return key.rpartition(".")[2] in names and value == {}
