"""Candidates -> scores: of one reranker, or of several scorers, an artifact each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tercet import data, modeling
from tercet.config.recipe import Recipe, RetrieverSettings
from tercet.config.teacher import ScorerSettings
from tercet.core.artifacts import MANIFEST, Artifact, Writer
from tercet.core.files import slug
from tercet.core.mapped import Vectors
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.pipeline.needs import Needs, unset
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.steps.negatives import OtherEmbeddings
from tercet.pipeline.trials import try_scorers


def scores_step(recipe: Recipe) -> Step:
    """The step that a recipe's `teacher` section asks for."""
    return MixedScores() if recipe.teacher.scorers else Scores()


class Scores(Step):
    """Score each query's source passage and candidates, every different pair once."""

    name = "scores"
    needs = Needs(
        artifacts=("corpus/passages", "negatives"),
        models=("teacher",),
        keys=("teacher.shard_pairs",),
    )
    revision = 3

    def computes(self, inputs: Inputs) -> bool:
        """Not where a service scores."""
        return not inputs.recipe.teacher.api

    def check(self, run: Run) -> None:
        """Try each scorer: one of another kind is refused before queries are written.

        So is a service that does not answer.
        """
        if (run.recipe.folder / self.name / MANIFEST).exists():
            return
        try_scorers(run.components)
        for path, scorer in run.recipe.teacher.each.items():
            if scorer.kind == "api":
                service = run.components.teacher(scorer)
                assert isinstance(service, modeling.ApiReranker)
                if process()[1] > 1 and scorer.dollars is not None:
                    raise InputError(
                        f"{path}.dollars is one process's budget: run `tercet adapt` as one"
                    )
                service.check()

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are scored by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.score_candidates`."""
        teacher = inputs.components.teacher()
        data.score_candidates(
            writer,
            inputs.rows("negatives/candidates"),
            inputs.passages,
            teacher,
            shard_pairs=inputs.recipe.teacher.shard_pairs,
        )
        if reading := getattr(teacher, "reading", ""):
            writer.facts |= {"teacher_reads": reading}


class MixedScores(Scores):
    """Put the scores of several scorers side by side; each scorer's are an artifact of its own."""

    needs = Needs(
        artifacts=("corpus/passages", "negatives"),
        unrecorded_keys=("teacher.each", "scorer_encoders"),
    )
    revision = 1

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Digests of the scorers' scores in order, made first where they are missing."""
        return {"scorers": [[name, made.digest] for name, made in self._scored(inputs)]}

    def computes(self, inputs: Inputs) -> bool:
        """The scorers do, before."""
        return False

    def all_processes(self, inputs: Inputs) -> bool:
        """The scorers are, before."""
        return False

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.write_lists`."""
        each = self._scored(inputs)
        paths = [made.shards("pairs") for _, made in each]
        data.write_lists(writer, inputs.rows("negatives/candidates"), inputs.passages, paths)
        for fact in ("pairs_scored", "tokens", "truncated"):
            if counts := [made.facts[fact] for _, made in each if fact in made.facts]:
                writer.facts[fact] = sum(counts)
        read = [f"{name} {made.facts['reads']}" for name, made in each if "reads" in made.facts]
        writer.facts |= {"teacher_reads": "; ".join(read)} if read else {}

    def _scored(self, inputs: Inputs) -> list[tuple[str, Artifact]]:
        encoders = inputs.recipe.scorer_encoders
        scorers = [*inputs.recipe.teacher.each.values()]
        steps = {s.short_name: OneScorer(s, encoders.get(s.short_name)) for s in scorers}
        return [(name, inputs.make(step)) for name, step in steps.items()]


class OneScorer(Step):
    """The scores of one of several scorers: other scorers, and all weights, change nothing."""

    revision = 1

    def __init__(self, scorer: ScorerSettings, encoder: RetrieverSettings | None) -> None:
        self.name, self._scorer = f"scores_{slug(scorer.short_name)}", scorer
        self._embeddings = OtherEmbeddings(encoder) if encoder else None
        self._encoder = encoder
        self.needs = Needs(
            artifacts=("corpus/passages", "negatives"),
            sources=(f"scorer {scorer.short_name}",),
            unrecorded_keys=("scorer_encoders",),
        )
        self.may_name = (scorer.name,)

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """The keys that change its scores; of a bi-encoder the passages' vectors."""
        of = self._encoder or self._scorer
        names = self._scorer.scoring
        found = {name: getattr(of, name, self._scorer.scoring[name]) for name in names}
        found = {k: v for k, v in found.items() if not unset(f"teacher.{k}", v)}
        found |= {"vectors": inputs.make(self._embeddings).digest} if self._embeddings else {}
        return found

    def computes(self, inputs: Inputs) -> bool:
        """Where a model scores that runs here."""
        return self._scorer.kind in ("cross_encoder", "bi_encoder")

    def precisions(self, inputs: Inputs) -> dict[str, modeling.Precision]:
        """The model's own."""
        own = (self._encoder or self._scorer).precision
        return {f"precision of scorer {Path(self._scorer.name).name}": own}

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are scored by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.score_pairs`."""
        passages = inputs.passages

        def vectors() -> Vectors:
            assert self._embeddings
            return data.read_vectors(inputs.make(self._embeddings), passages)

        scorer = inputs.components.scorer(self._scorer, passages, vectors)
        candidates = inputs.rows("negatives/candidates")
        data.score_pairs(writer, candidates, passages, scorer, shard_pairs=self._scorer.shard_pairs)
        if reading := getattr(scorer, "reading", ""):
            writer.facts |= {"reads": reading}
