"""The pipeline: each property is an arrow, and its value the artefact at the arrow's end.

Asking for an artefact makes it, or reuses it where nothing that it depends on has changed. With
`tercet.pipeline.components`, this is the one module of the hall that knows all rooms.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.recipe import Recipe, RetrieverSettings
from tercet.config.training import WEIGHTLESS
from tercet.core.artifacts import MANIFEST, Artifact, Stage, Writer, produce
from tercet.core.console import console
from tercet.core.files import digest, read_json, slug, write_json
from tercet.core.mapped import MappedVectors, Vectors, map_scratch, new_scratch
from tercet.core.processes import is_main_process, locked
from tercet.core.schema import Encoder, Index, InputError, Qrels, Query, Retriever
from tercet.data import Passages
from tercet.data.calibration_plot import calibration_svg
from tercet.data.corpus import read_judged
from tercet.data.triplets import DOUBTFUL
from tercet.modeling.training.adapter_trial import adapter_trial
from tercet.modeling.training.model_selection import write_choices
from tercet.pipeline.components import Components
from tercet.pipeline.steps.student import QuerySide

if TYPE_CHECKING:
    from tercet.sharing.wandb import TrainingRun

#: What is measured whenever weights are: what chooses, what guards the choice, what is reported.
SPLITS = ("validation", "guard", "test")
#: Settings of the model that its vectors, before it is trained, do not depend on.
UNSEEN = (
    *("name", "dropout", "lora_rank", "lora_alpha", "train", "passage_vectors", "api", "dollars"),
    *("adapter_rank", "adapter_penalty", "regression_passages"),
)


class Pipeline:
    """The stages of one recipe, from its corpus to its evaluation."""

    def __init__(self, recipe: Recipe, *, restart: bool = False) -> None:
        self.recipe = recipe
        self.restart = restart
        self.parts = Components(recipe)
        #: What the processes of one launch, and no other, have in common.
        self.launch = modeling.from_first_process(lambda: uuid4().hex)
        self._best_index: Index | None = None
        #: Where the passages' vectors stay as they are.
        self.query_side = QuerySide(self) if recipe.model.frozen else None

    def check(self) -> None:
        """Meet every source, model and server before any work. Raises InputError."""
        self.parts.check()
        if not (self.recipe.folder / "scores" / MANIFEST).exists():
            self.parts.teacher()  # one of another kind is refused now, not after the queries
        if self.query_side:
            self.query_side.check()
        if not self.recipe.model.given:
            modeling.check_widths(self.recipe.loss, self.student)  # its pooling and lengths, too

    def stage(
        self, name: str, settings: dict[str, Any], inputs: dict[str, str], **kwargs: Any
    ) -> Stage:
        """A stage of this run, by its name."""
        return Stage(self.recipe.folder / name, settings, inputs, launch=self.launch, **kwargs)

    def _model(self, name: str) -> dict[str, str]:
        return {f"model {name}": self.parts.identity(name)}

    @cached_property
    def student_digest(self) -> str:
        """Identity of the model as it starts and of all that its vectors depend on."""
        if self.query_side and self.recipe.model.given:
            return self.query_side.digest
        return self.model_digest

    @cached_property
    def model_digest(self) -> str:
        """Identity of the model that the recipe names, as it is read."""
        section = self.recipe.model
        settings = {k: v for k, v in asdict(section).items() if k not in UNSEEN}
        return digest([self.parts.identity(section.name), settings])

    @property
    def passages_digest(self) -> str:
        """Identity of the passages alone: other judgements do not make them others."""
        return self.corpus.digest_of("passages")

    def _student(self) -> dict[str, str]:
        return {"student": self.student_digest}

    def _passages(self) -> dict[str, str]:
        return {"passages": self.passages_digest}

    # ── corpus ───────────────────────────────────────────────────────────────────────────────

    @cached_property
    def corpus(self) -> Artifact:
        """Passages, judged queries and judgements."""
        source = self.parts.source
        inputs = {"source": modeling.from_first_process(source.identity)}
        settings = {"source": self.recipe.corpus.source}
        stage = self.stage("corpus", settings, inputs, resumable=False, revision=2)
        return produce(stage, lambda writer: data.write_corpus(writer, source))

    @cached_property
    def passages(self) -> Passages:
        """The passages, in the corpus's order."""
        return Passages.read(self.corpus)

    @cached_property
    def student(self) -> modeling.SimilarityEncoder:
        """The model as it starts: as it came, or regressed into the space of given vectors."""
        return self.query_side.fresh() if self.query_side else self.parts.student()

    # ── synthetic queries, candidates, scores, triplets ──────────────────────────────────────

    @cached_property
    def queries(self) -> Artifact:
        """Synthetic queries."""
        if self.query_side:
            self.query_side.meet()
        section = self.recipe.queries
        inputs = self._passages() | {"judged queries": self.corpus.digest_of("queries")}
        for settings in section.generators:
            inputs |= self._model(settings.model) if settings.model else {}
        judged = self.corpus.dataset("queries")["text"]

        def make(writer: Writer) -> None:
            data.generate_queries(
                writer,
                self.passages,
                [(self.parts.generator(g, self.passages), g.share) for g in section.generators],
                count=section.count,
                per_passage=section.per_passage,
                seed=self.recipe.seed,
                shard_passages=section.shard_passages,
                judged=judged[:],
            )

        stage = self.stage("queries", self._seeded(asdict(section)), inputs, revision=4)
        return produce(stage, make, all_processes=True)

    def _seeded(self, settings: dict[str, Any]) -> dict[str, Any]:
        return settings | {"seed": self.recipe.seed}

    @cached_property
    def embeddings(self) -> Artifact:
        """The passages' vectors by the model as it came, or as they are given."""
        if self.query_side and self.recipe.model.given:
            given = self.query_side.embeddings_stage(self._passages())
            return produce(given, self.query_side.write_vectors)
        return produce(
            self.stage("embeddings", {}, self._passages() | self._student(), revision=3),
            lambda writer: data.embed_passages(writer, self.student, self.passages),
            all_processes=True,
        )

    @cached_property
    def vectors(self) -> MappedVectors:
        """The same as float32 [passages, dimension]."""
        return data.read_vectors(self.embeddings, self.passages)

    @cached_property
    def negatives(self) -> Artifact:
        """Each query's candidates."""
        section = self.recipe.negatives
        settings = asdict(section) | {"index": section.index.settings()}
        inputs = {"queries": self.queries.digest, "embeddings": self.embeddings.digest}
        inputs |= self._passages() | self._student()
        for retriever in section.retrievers:
            inputs |= self._model(retriever.model) if retriever.model else {}

        def make(writer: Writer) -> None:
            with ExitStack() as indexes:
                data.mine_candidates(
                    writer,
                    self.queries.dataset("queries"),
                    self.passages.duplicates,
                    [(self._retriever(r, indexes), r.share) for r in section.retrievers],
                    candidates=section.candidates,
                    shard_queries=section.shard_queries,
                    rows=self.passages.rows if section.index.collection else None,
                )

        # An index that is built in memory or on a server is the first process's alone.
        together = section.index.backend == "exact"
        stage = self.stage("negatives", settings, inputs, revision=2)
        return produce(stage, make, all_processes=together)

    def _retriever(self, settings: RetrieverSettings, indexes: ExitStack) -> Retriever:
        """What proposes candidates, over all passages; its index goes with `indexes`."""
        if settings.kind == "bm25":
            return self.parts.bm25(settings, self.passages)
        encoder, vectors = self.student, self.vectors
        if settings.model:
            encoder = modeling.BiEncoder.from_pretrained(settings.model)
            vectors = self._vectors_by(encoder, self._model(settings.model))
        index = self.parts.index_of(self.recipe.negatives.index)
        indexes.callback(index.discard)
        index.build(self.passages.ids, vectors)
        name = Path(settings.model).name if settings.model else "student"
        return retrieval.DenseRetriever(encoder, index, name=name)

    def _vectors_by(self, encoder: modeling.BiEncoder, model: dict[str, str]) -> MappedVectors:
        """The passages' vectors by another model than the student, kept as an artefact."""
        made = produce(
            self.stage(f"embeddings_{slug(encoder.name)}", {}, self._passages() | model),
            lambda writer: data.embed_passages(writer, encoder, self.passages),
            all_processes=self.recipe.negatives.index.backend == "exact",
        )
        return data.read_vectors(made, self.passages)

    @cached_property
    def scores(self) -> Artifact:
        """The teacher's scores of each query's positive and candidates."""
        section = self.recipe.teacher
        inputs = {"negatives": self.negatives.digest}
        inputs |= self._passages() | self._model(section.name)
        settings = {k: v for k, v in asdict(section).items() if k not in ("name", "revision")}
        return produce(
            self.stage("scores", settings, inputs, revision=2),
            lambda writer: data.score_candidates(
                writer,
                self.negatives.dataset("candidates"),
                self.passages,
                self.parts.teacher(),
                shard_pairs=section.shard_pairs,
            ),
            all_processes=True,
        )

    @cached_property
    def triplets(self) -> Artifact:
        """Lists with both models' scores, split in training and held-out queries."""
        part = self.recipe.triplets.held_out
        held_out = {"validation": part * 2 / 3, "guard": part / 3}
        if not self._judged()[1]:
            held_out["test"] = part / 2
        section = self.recipe.triplets
        filters = data.Filters(
            section.filter_rank, section.filter_percentile, section.filter_max_matches
        )
        settings = {"held_out": held_out, "filters": asdict(filters)}
        inputs = {"scores": self.scores.digest, "embeddings": self.embeddings.digest}
        inputs |= self._student()
        return produce(
            self.stage("triplets", self._seeded(settings), inputs, revision=2),
            lambda writer: data.build_triplets(
                writer,
                self.scores.dataset("lists"),
                self.student,
                self.passages,
                self.vectors,
                held_out=held_out,
                seed=self.recipe.seed,
                filters=filters,
            ),
        )

    @cached_property
    def targets(self) -> Artifact:
        """The score that each stored pair should get."""
        section = self.recipe.triplets
        settings = {"calibration": section.calibration, "teacher_weight": section.teacher_weight}
        inputs = {"triplets": self.triplets.digest, "embeddings": self.embeddings.digest}
        inputs |= self._passages() | self._student()
        lists = self.triplets.dataset("lists")

        def make(writer: Writer) -> None:
            trial = None
            if section.teacher_weight is None:
                held_out, qrels, _ = self.measured("validation")
                given = (self.student, self.passages, self.vectors, lists, held_out, qrels)
                trial = adapter_trial(*given, seed=self.recipe.seed)
            data.write_targets(
                writer,
                lists,
                method=section.calibration,
                weight=section.teacher_weight,
                trial=trial,
                plot=calibration_svg,
            )

        return produce(self.stage("targets", self._seeded(settings), inputs), make)

    # ── what is measured ─────────────────────────────────────────────────────────────────────

    def _judged(self) -> tuple[list[Query], dict[str, dict[str, int]]]:
        return read_judged(self.corpus, self.recipe.corpus.test_split)

    def measured(self, name: str) -> tuple[list[Query], Qrels, str]:
        """Queries and qrels of a split, and in words what they are.

        "validation", which chooses, and "guard" are synthetic queries; so is "test" where none are
        judged.
        """
        queries, qrels = self._judged() if name == "test" else ([], {})
        if qrels:
            split = self.recipe.corpus.test_split
            return queries, qrels, f"{len(qrels):,} judged queries of split {split!r}"
        lists = self.triplets.dataset("lists")
        held = lists.select(np.flatnonzero(np.array(lists["split"]) == name))[:]
        duplicates = self.passages.duplicates
        rows = zip(held["query_id"], held["query"], held["passages"], strict=True)
        queries, qrels = [], {}
        for query_id, text, (source, *_) in rows:
            queries.append(Query(query_id, text))
            qrels[query_id] = dict.fromkeys(duplicates.get(source, [source]), 1)
        return queries, qrels, f"{len(qrels):,} held-out synthetic queries (known items)"

    @property
    def tested_on(self) -> str:
        """Identity of the test queries with their judgements, which the model does not rest on."""
        queries, qrels, _ = self.measured("test")
        return digest([[[query.id, query.text] for query in queries], qrels])

    def evaluation_rows(self) -> np.ndarray:
        """Rows of the passages that every epoch searches: all, or a sample and all judged."""
        size, passages = self.recipe.evaluation.passages, self.passages
        if size is None or size >= len(passages):
            return np.arange(len(passages))
        judged = passages.rows(
            passage
            for name in SPLITS
            for grades in self.measured(name)[1].values()
            for passage in grades
        )
        sample = np.random.default_rng(self.recipe.seed).permutation(len(passages))[:size]
        return np.union1d(sample, np.array([*judged.values()], np.int64))

    # ── training and evaluation ──────────────────────────────────────────────────────────────

    def model_stage(self) -> Stage:
        """What the adapted model follows from."""
        recipe = self.recipe
        settings = {
            "negatives_per_query": recipe.negatives_per_query,
            "loss": asdict(recipe.loss),
            "training": {
                k: v
                for k, v in recipe.training.items()
                if k not in WEIGHTLESS and not k.startswith(("hub_", "trackio_"))
            },
            "dropout": recipe.model.dropout,
            "lora": [recipe.model.lora_rank, recipe.model.lora_alpha],
            "index": recipe.index.settings(),
            "early_stopping_patience": recipe.evaluation.early_stopping_patience,
            "interpolation_steps": recipe.evaluation.interpolation_steps,
        }
        if recipe.model.frozen:
            settings["train"] = recipe.model.train
        if recipe.model.adapter:
            settings["adapter"] = [recipe.model.adapter_rank, recipe.model.adapter_penalty]
        if recipe.evaluation.passages:  # a sample, with what is judged
            settings["searched"] = digest(self.evaluation_rows().tolist())
        inputs = {"triplets": self.triplets.digest, "targets": self.targets.digest}
        inputs |= self._passages()
        inputs |= {"embeddings": self.embeddings.digest} | self._student()
        return self.stage("model", self._seeded(settings), inputs, revision=2)

    @cached_property
    def model(self) -> Artifact:
        """The adapted model, or the model as it came if no epoch was better."""
        stage = self.model_stage()
        return produce(stage, lambda writer: self._train(writer, stage), all_processes=True)

    def check_adapted(self) -> None:
        """Refuse a model adapted from another one than the recipe's, or read otherwise."""
        plan = read_json(self.recipe.folder / "model" / "manifest.json")["plan"]
        before = plan["inputs"]
        learnt = plan["settings"].get("train")
        if learnt != (self.recipe.model.train if self.recipe.model.frozen else None):
            raise InputError(
                f"{self.recipe.folder / 'model'} is {learnt or 'both towers'}, and this recipe's "
                "model.train says otherwise: give those that it was trained with"
            )
        if before["student"] != self._student()["student"]:
            raise InputError(
                f"{self.recipe.folder / 'model'} was adapted from another model than this recipe's "
                "`model` section: give the recipe and options that it was trained with"
            )

    def training_set(self) -> data.Triplets:
        """The lists of the training queries, to draw triplets from."""
        return data.Triplets(
            self.triplets.dataset("lists"),
            self.targets.dataset("targets"),
            negatives_per_query=self.recipe.negatives_per_query,
            false_negative_margin=self.recipe.loss.false_negative_margin,
            seed=self.recipe.seed,
        )

    def _train(self, writer: Writer, stage: Stage) -> None:
        recipe, train = self.recipe, self.training_set()
        if is_main_process():
            retrieval.drop_leftovers(self.parts.make_index())
            for warning in self.warnings():
                console.print(f"[yellow]{warning}[/]")
        student, collator = self._to_train(train)
        outcome = modeling.adapt(
            student,
            train,
            collator,
            self._evaluation(student),
            recipe,
            plan=stage.plan,
            restart=self.restart,
            log=self.tracked.log if self.tracked else None,
        )
        self._best_index = outcome.choice.index
        if is_main_process():
            student.save_pretrained(writer.folder)
            write_json(writer.folder / "history.json", outcome.history)
            write_choices(writer, outcome.choice.metrics)
            writer.facts |= outcome.facts | {"tested_on": self.tested_on}

    def _to_train(
        self, train: data.Triplets
    ) -> tuple[modeling.BiEncoder | modeling.AdaptedEncoder, modeling.TripletCollator]:
        """What learns, from the start, and what it reads."""
        student = self.query_side.student() if self.query_side else self.parts.student()
        if isinstance(student, modeling.BiEncoder):
            student.set_dropout(self.recipe.model.dropout)
        if isinstance(student, modeling.AdaptedEncoder) and is_main_process():  # who evaluates
            for split in SPLITS:
                student.remember([query.text for query in self.measured(split)[0]])
        if self.query_side:
            return student, self.query_side.collator(student, train)
        assert isinstance(student, modeling.BiEncoder)
        student.space = None  # all its passages are encoded anew
        texts = self.passages.texts(train.passage_ids())
        return student, modeling.TripletCollator.of_texts(student, train.queries, texts)

    @cached_property
    def tracked(self) -> TrainingRun | None:
        """The run on W&B, where the recipe asks for one; the first process's."""
        if "wandb" not in self.recipe.tracking.report_to or not is_main_process():
            return None
        # It is an extra.
        from tercet.sharing.wandb import TrainingRun

        return TrainingRun(self)

    def new_index(self) -> Index:
        """An index to fill with the passages; the one that stands, where their vectors do."""
        return self.query_side.index if self.query_side else self.parts.make_index()

    def _evaluation(self, student: modeling.Student) -> modeling.RetrievalEvaluation:
        return modeling.RetrievalEvaluation(
            student,
            self.passages,
            {name: self.measured(name)[:2] for name in SPLITS},
            make_index=self.new_index,
            metrics=self.recipe.measures,
            scratch=self.recipe.folder,
            rows=self.evaluation_rows(),
            zero_shot_vectors=self.vectors,
            frozen=self.recipe.model.frozen,
        )

    def evaluation_stage(self) -> Stage:
        """What the figures follow from."""
        index = self.recipe.index
        settings: dict[str, Any] = {"measures": self.recipe.measures}
        settings |= {"index": index.settings() | {"alias": index.alias}}
        settings |= {"test_split": self.recipe.corpus.test_split}
        inputs = {"model": self.model.digest, "embeddings": self.embeddings.digest}
        inputs |= {"corpus": self.corpus.digest, "triplets": self.triplets.digest}
        inputs |= self._student()
        return self.stage("evaluation", settings, inputs)

    @cached_property
    def evaluation(self) -> Artifact:
        """Figures of the model as it came and as adapted, on the test queries."""
        made = produce(self.evaluation_stage(), self._measure)
        if is_main_process():
            self._ensure_published()
        return made

    def _ensure_published(self) -> None:
        """A server that lost the best model's passages, or never had them, gets them again."""
        index = self.parts.make_index()
        published = index.serves(self.recipe.alias)
        index.discard()
        if not published:
            self._measure_and_publish(self.adapted())

    def adapted(self) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """The model that ships."""
        return self.parts.adapted(self.recipe.folder / "model")

    def _measure_and_publish(self, adapted: Encoder) -> dict[str, dict[str, float]]:
        if self.query_side:
            return self.figures(adapted, self.vectors, publish=True)
        shape = len(self.passages), adapted.dimension
        path = new_scratch(self.recipe.folder, *shape)
        vectors = map_scratch(path, *shape)
        path.unlink()
        modeling.encode_blocks(adapted, self.passages.ids, self.passages.contents, vectors)
        return self.figures(adapted, vectors, publish=True)

    def figures(
        self, encoder: Encoder, vectors: Vectors, *, publish: bool = False
    ) -> dict[str, dict[str, float]]:
        """Measure -> test query id -> figure, over all passages in a fresh index.

        The index is discarded, unless told to `publish` it under the recipe's alias.
        """
        index = self.new_index()
        try:
            index.build(self.passages.ids, vectors)
            figures = self._search(encoder, index)
        except BaseException:
            index.discard()
            raise
        if publish:
            index.publish(self.recipe.alias)
        else:
            index.discard()
        return figures

    def _search(self, encoder: Encoder, index: Index) -> dict[str, dict[str, float]]:
        queries, qrels, _ = self.measured("test")
        return retrieval.search_and_measure(encoder, index, queries, qrels, self.recipe.measures)

    def _measure(self, writer: Writer) -> None:
        figures = {"zero-shot": self.figures(self.student, self.vectors)}
        adapted, frozen = self.adapted(), self.recipe.model.frozen
        if self._best_index and not frozen and not self.recipe.evaluation.passages:
            figures["adapted"] = self._search(adapted, self._best_index)
            self._best_index.publish(self.recipe.alias)
        else:
            if self._best_index:
                self._best_index.discard()
            figures["adapted"] = self._measure_and_publish(adapted)
        retrieval.write_figures(writer, figures)
        writer.facts |= {name: self.measured(name)[2] for name in SPLITS}

    def warnings(self) -> list[str]:
        """What the triplets say against training on them."""
        facts, warnings = self.triplets.facts | self.targets.facts, []
        if facts["positive_mean_rank"] > DOUBTFUL * (self.recipe.negatives.candidates + 1):
            warnings.append(
                "warning: the teacher ranks a query's own passage at "
                f"{facts['positive_mean_rank']:.1f} of its candidates on average: are the queries "
                "about their passages?"
            )
        if facts["slope"] <= 0:
            warnings.append(
                "warning: the teacher's scores oppose the model's within the lists (slope "
                f"{facts['slope']:.2g}); candidates that one of them favours can look like that, a "
                "teacher of another language too: --audit tells them apart"
            )
        return warnings


def only(stage: str) -> Callable[[Recipe, set[str]], None]:
    """A program that makes one stage, and those before it that are missing."""

    def main(recipe: Recipe, flags: set[str]) -> None:
        with locked(recipe.folder):
            getattr(Pipeline(recipe), stage)

    return main
