"""The `teacher` section: the scorers whose scores are distilled, one or several."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tercet.config.model import PoolingMode
from tercet.config.parsing import key, plugin_options
from tercet.core.files import slug

ScorerKind = Literal["cross_encoder", "bm25", "bi_encoder", "api"]


@dataclass(frozen=True)
class RerankerSettings:
    """A model that reads a query and a passage together: a cross-encoder, or one behind an API."""

    name: str = key(
        "cross-encoder/ms-marco-MiniLM-L6-v2",
        "folder or Hub name; with `api` the service's model name; or a plug-in, "
        "package.module:Name",
        plugin="teachers",
    )
    options: dict[str, Any] = plugin_options()
    api: Literal["cohere", "tei", "vllm"] | None = key(
        None,
        "reranker behind an API: Cohere's, or the /rerank of TEI or vLLM; each pair is paid for "
        "once; unset: a local model",
    )
    endpoint: str | None = key(
        None, "address before /rerank, such as http://localhost:8080; unset: Cohere's (api)"
    )
    key_variable: str | None = key(
        None, "environment variable of the key; unset: CO_API_KEY or OPENAI_API_KEY (api)"
    )
    dollars: float | None = key(
        None,
        "budget in US dollars of one program call, which stops before exceeding it (api)",
        low=0,
    )
    dollars_per_1000_searches: float | None = key(
        None, "price of a thousand searches; unset: Cohere's list, else unknown (api)", low=0
    )
    revision: str | None = key(None, "Hub revision")
    backend: Literal["auto", "torch", "onnx"] = key(
        "auto", "auto: torch, or onnx for a model with ONNX weights alone"
    )
    format: Literal["auto", "pair", "chat", "qwen3", "gemma", "monot5"] = key(
        "auto",
        "how a pair is written; auto: as the folder says; pair: as two texts; chat: by its chat "
        "template; qwen3, gemma, monot5: as published for Qwen3-Reranker, "
        "bge-reranker-v2-gemma and monoT5",
    )
    instruction: str | None = key(
        None, "what it is told before a pair; unset: the folder's prompt, or the published one"
    )
    label: str | None = key(
        None, "label whose logit is the score, by name or number (classifiers with several)"
    )
    answers: list[str] | None = key(
        None,
        "words for yes and no: the score is the log-odds of them, or the logit of one (language "
        "models); unset: the folder's, or the published ones",
    )
    max_length: int = key(256, "maximum tokens of query and passage together", low=16)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key(
        "auto", "auto: bf16 if it is measured to be 10% faster here, else fp32; kept by the run"
    )
    shard_pairs: int = key(2048, "pairs per shard; a killed run redoes one shard", low=1)

    def fault_of_api(self) -> str | None:
        """What a reranker behind an API lacks, or None."""
        if self.api and self.name == RerankerSettings().name:
            return "api has models of its own: give name"
        if self.api in ("tei", "vllm") and not self.endpoint:
            return f"api is {self.api}: give endpoint, the address before /rerank"
        return None


#: The keys of a scorer that its kind reads, beside those of all kinds.
_OF_API = ("api", "endpoint", "key_variable", "dollars", "dollars_per_1000_searches")
_READ: dict[str, tuple[str, ...]] = {
    "cross_encoder": (
        *("name", "options", "revision", "backend", "format", "instruction", "label"),
        *("answers", "max_length", "precision"),
    ),
    "bm25": ("k1", "b", "language"),
    "bi_encoder": ("name", "pooling", "precision"),
    "api": ("name", *_OF_API),
}
_OF_ALL = ("kind", "weight", "shard_pairs")
#: Keys that say where a scorer is, or what it costs: they change no score.
_PLACES = ("name", "revision", *_OF_API)


@dataclass(frozen=True)
class ScorerSettings(RerankerSettings):
    """One of several scorers of each pair."""

    kind: ScorerKind = key(
        "cross_encoder",
        "cross_encoder: reads query and passage together, or a plug-in as `name`; bm25: lexical; "
        "bi_encoder: an encoder's vectors; api: a reranker behind an API",
    )
    weight: float | None = key(
        None,
        "weight among the scorers; unset for all: equal, or others that are significantly better "
        "on held-out queries",
        above=0,
    )
    pooling: PoolingMode | None = key(None, "of `name`, as model.pooling (bi_encoder)")
    k1: float = key(0.9, "BM25: term saturation", low=0)
    b: float = key(0.4, "BM25: length normalisation", low=0, high=1)
    language: str | None = key("english", "BM25: stemmer and stop words; null: none")

    @property
    def short_name(self) -> str:
        """Its name in reports and folders."""
        return self.kind if self.kind == "bm25" else Path(self.name).name

    @property
    def described(self) -> str:
        """The model's name, or the kind that needs none."""
        return self.kind if self.kind == "bm25" else self.name

    @property
    def encodes_in(self) -> Literal["auto", "fp32", "bf16"]:
        """The number format of a bi-encoder, which has no fp16."""
        return "auto" if self.precision == "fp16" else self.precision

    @property
    def scoring(self) -> dict[str, Any]:
        """The keys that change its scores, by name."""
        names = (*_READ[self.kind], "shard_pairs")
        return {name: getattr(self, name) for name in names if name not in _PLACES}

    def misplaced(self) -> str | None:
        """What these settings lack, or hold without an effect, or None."""
        plain = ScorerSettings()
        for each in fields(self):
            if each.name in (*_OF_ALL, *_READ[self.kind]):
                continue
            if getattr(self, each.name) != getattr(plain, each.name):
                return f"is {self.kind}: `{each.name}` is not read"
        if self.kind == "bi_encoder" and self.name == plain.name:
            return "is bi_encoder: give its `name`"
        if self.kind == "bi_encoder" and self.precision == "fp16":
            return "is bi_encoder: `precision` is auto, fp32 or bf16"
        if self.kind == "api" and not self.api:
            return "is api: give its `api`, cohere, tei or vllm"
        return self.fault_of_api()


@dataclass(frozen=True)
class TeacherSection(RerankerSettings):
    """What is distilled: one reranker, or several `scorers` in its place."""

    scorers: list[ScorerSettings] = key(
        list,
        "several scorers, each with `kind` and the keys that it reads, in place of the keys above",
    )
    student_weight: float | None = key(
        None,
        "weight of the base model's own scores in the targets, the teacher's have the rest; unset: "
        ".5, or another that is significantly better on held-out queries; plain GPL: 0, "
        "triplets.calibration none, loss.kind margin_mse",
        low=0,
        high=1,
    )

    @property
    def each(self) -> dict[str, ScorerSettings]:
        """The scorers by the path of their keys: those that are listed, or the one reranker."""
        if self.scorers:
            return {f"teacher.scorers.{i}": each for i, each in enumerate(self.scorers)}
        own = {each.name: getattr(self, each.name) for each in fields(RerankerSettings)}
        return {"teacher": ScorerSettings(kind="api" if self.api else "cross_encoder", **own)}

    @property
    def names(self) -> list[str]:
        """The scorers' names in reports, in order."""
        return [each.short_name for each in self.each.values()]

    @property
    def weights(self) -> list[float] | None:
        """The scorers' weights, which add up to 1; None where they are to be chosen."""
        given = [each.weight for each in self.scorers if each.weight is not None]
        return [weight / sum(given) for weight in given] if given else None

    @property
    def reranker(self) -> RerankerSettings | None:
        """The first scorer that reranks by itself, or None."""
        rerankers = (s for s in self.each.values() if s.kind in ("cross_encoder", "api"))
        found = next(rerankers, None)
        names = [each.name for each in fields(RerankerSettings)]
        return found and RerankerSettings(**{name: getattr(found, name) for name in names})

    def misplaced(self) -> str | None:
        """What these settings lack, or hold without an effect, or None."""
        if self.scorers:
            return self._fault_of_scorers()
        plain = TeacherSection()
        of_model = ("revision", "backend", "max_length", "precision")
        for name in of_model if self.api else _OF_API[1:]:
            if getattr(self, name) != getattr(plain, name):
                place = "a local model" if self.api else "teacher.api"
                return f"teacher.{name} belongs to {place} and has no effect here"
        fault = self.fault_of_api()
        return f"teacher.{fault.replace('give ', 'give teacher.')}" if fault else None

    def _fault_of_scorers(self) -> str | None:
        plain = RerankerSettings()
        for each in fields(RerankerSettings):
            if getattr(self, each.name) != getattr(plain, each.name):
                return (
                    f"teacher.{each.name} is of one reranker: beside teacher.scorers give it as a "
                    f"key of one of them, teacher.scorers.N.{each.name}"
                )
        for number, scorer in enumerate(self.scorers):
            if fault := scorer.misplaced():
                return f"teacher.scorers.{number} {fault}"
        if len({slug(name) for name in self.names}) < len(self.scorers):
            return f"two of teacher.scorers have one name ({', '.join(self.names)})"
        if len({each.weight is None for each in self.scorers}) > 1:
            return "give each of teacher.scorers a weight, or none"
        return None
