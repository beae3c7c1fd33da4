"""A step reads what it declares: nothing else, and all of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from typing import Any

import pytest
from recipe_keys import KEYS
from tiny_runs import EVERY_STEP, RUN, Runs, copied, recipe_of

from tercet.config.recipe import Recipe, RetrieverSettings
from tercet.config.teacher import ScorerSettings
from tercet.core.artifacts import Writer
from tercet.pipeline.needs import MODEL_KEYS, RecipeView, UndeclaredInput
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.run import Inputs, Step
from tercet.pipeline.steps.corpus import Corpus
from tercet.pipeline.steps.embeddings import EncodedEmbeddings, GivenEmbeddings
from tercet.pipeline.steps.evaluation import Evaluation
from tercet.pipeline.steps.model import Model
from tercet.pipeline.steps.negatives import Negatives, OtherEmbeddings
from tercet.pipeline.steps.queries import Queries
from tercet.pipeline.steps.scores import MixedScores, OneScorer, Scores
from tercet.pipeline.steps.student import AdapterStudent, BaseStudent, ProjectedStudent
from tercet.pipeline.steps.targets import Targets
from tercet.pipeline.steps.triplets import Triplets

#: A retriever of another model.
OTHER = RetrieverSettings(kind="dense", model="other", precision="fp32")
#: Steps that are made within others: their folders, and those steps.
WITHIN: dict[type[Step], tuple[str, str]] = {
    OtherEmbeddings: ("embeddings_other", "negatives"),
    OneScorer: ("scores_teacher", "scores"),
}
SOME: dict[type[Step], Step] = {
    OtherEmbeddings: OtherEmbeddings(OTHER),
    OneScorer: OneScorer(ScorerSettings(name="teacher"), None),
}
#: Every kind of step, and the run that has one.
KINDS: dict[type[Step], str] = {
    Corpus: "whole",
    EncodedEmbeddings: "whole",
    GivenEmbeddings: "given",
    BaseStudent: "whole",
    AdapterStudent: "given_adapter",
    ProjectedStudent: "given",
    Queries: "whole",
    OtherEmbeddings: "other",
    Negatives: "other",
    Scores: "whole",
    OneScorer: "mixed",
    MixedScores: "mixed",
    Triplets: "whole",
    Targets: "whole",
    Model: "whole",
    Evaluation: "whole",
}
#: Runs in which every kind reads all that it declares, but for `UNREAD`.
READING = (
    *("whole", "learned", "gated", "other", "lora", "sampled"),
    *("encoder", "adapter", "given", "given_adapter", "mixed"),
)
OF_A_REQUEST = ("model.query_request", "model.passage_request")
#: Read where the model is behind an API, which it is not in these runs.
OF_A_SERVICE = (
    *("model.dollars", "model.endpoint", "model.key_variable"),
    *("model.dollars_per_million_tokens", *OF_A_REQUEST),
)
#: What is declared and not read by its own name in these runs, and why.
UNREAD: dict[type[Step], dict[str, str]] = {
    GivenEmbeddings: {"corpus": "of vectors that are a column of the corpus"},
    BaseStudent: {key: "the artifact holds the value itself" for key in MODEL_KEYS["base"]},
    EncodedEmbeddings: dict.fromkeys(OF_A_REQUEST, "of a service"),
    AdapterStudent: {
        "model.similarity": "that of the given vectors, which may be set by it",
        **dict.fromkeys(OF_A_REQUEST, "of a service"),
    },
    ProjectedStudent: {
        "model.similarity": "that of the given vectors, which may be set by it",
        **dict.fromkeys(OF_A_REQUEST, "of a service"),
    },
    Scores: {"teacher.options": "of a plug-in"},
    Model: {
        "model.train": "`frozen` and `adapter` are read, which follow from it",
        **dict.fromkeys(OF_A_SERVICE, "of a service"),
        "weight_arguments": "`training` is read, and these arguments of it change the weights",
        "index.settings": "`index` is read, and these keys of it change what is found",
        "corpus.path": "of a live Weaviate collection that is the corpus too",
        "corpus.passages.id": "of a live Weaviate collection that is the corpus too",
        "corpus.tenant": "of a live Weaviate collection that is the corpus too",
    },
    Evaluation: {
        "model.name": "of a service",
        **dict.fromkeys(OF_A_SERVICE, "of a service"),
        "index.settings": "`index` is read, and these keys of it change what is found",
        "index.alias": "`alias` is read: this key, or a name that does not change the results",
        "corpus.path": "of a live Weaviate collection that is the corpus too",
        "corpus.passages.id": "of a live Weaviate collection that is the corpus too",
        "corpus.tenant": "of a live Weaviate collection that is the corpus too",
    },
}


class _Probed(Exception):
    """The step was made as far as this test needs it."""


def _reached(path: str) -> Callable[[Any], Any]:
    """What reads the dotted key `path` of a recipe."""

    def read(value: Any) -> Any:
        for name in path.split("."):
            value = getattr(value, name)
        return value

    return read


def _undeclared_keys(readable: set[str]) -> list[str]:
    """Recipe keys and properties that are neither declared nor in a declared section."""
    properties = [name for name, value in vars(Recipe).items() if isinstance(value, property)]
    names = {name.partition(".N.")[0] for name in KEYS} | {*properties}
    names = {"training" if name.startswith("training.") else name for name in names}
    within = [f"{name}." for name in readable]
    return sorted(
        name for name in names if name not in readable and not name.startswith((*within,))
    )


def _reads_of_artifacts(inputs: Inputs) -> dict[str, tuple[tuple[str, ...], Callable[[], Any]]]:
    """Every way to read an artifact: the declarations of which one allows it, and the reading."""
    reads: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {
        f"inputs[{name!r}]": ((name,), lambda name=name: inputs[name]) for name in EVERY_STEP
    }
    rows = ("corpus/queries", "queries/queries", "negatives/candidates", "scores/lists")
    for name in (*rows, "triplets/lists", "targets/targets"):
        whole = name.partition("/")[0]
        reads[f"rows of {name}"] = ((name, whole), lambda name=name: inputs.rows(name))
    return reads | {
        "passages": (("corpus/passages", "corpus"), lambda: inputs.passages),
        "vectors": (("embeddings",), lambda: inputs.vectors),
        "the student": (("student",), lambda: inputs.starting_model),
        "a new student": (("student",), inputs.new_student),
        "judgements": (("corpus/qrels", "corpus"), inputs.judged),
        "validation queries": (("triplets/lists", "triplets"), lambda: inputs.split("validation")),
        "another step's artifact": (
            ("corpus/passages", "corpus"),
            lambda: inputs.make(OtherEmbeddings(OTHER)),
        ),
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_step_is_refused_what_it_does_not_declare(
    runs: Runs, kind: type[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(step: Step, inputs: Inputs, writer: Writer) -> None:
        needs = step.needs
        keys = _undeclared_keys({*needs.readable_keys})
        assert len(keys) > 20
        for key in keys:
            with pytest.raises(UndeclaredInput, match=f"step {step.name} reads"):
                _reached(key)(inputs.recipe)
                pytest.fail(f"{key} was read")
        refused = 0
        for name, (declared, read) in _reads_of_artifacts(inputs).items():
            if not {*declared} & {*needs.readable_artifacts}:
                refused += 1
                with pytest.raises(UndeclaredInput, match=f"step {step.name} reads"):
                    read()
                    pytest.fail(f"{name}: was read")
        assert refused >= 5
        raise _Probed

    run = runs[KINDS[kind]]
    monkeypatch.setattr(kind, "make", make)
    with copied(run) as root, chdir(root):
        pipeline = Pipeline(recipe_of(run.keys))
        step = next((s for s in pipeline.steps.values() if type(s) is kind), None)
        name, whole = (step.name, step.name) if step else WITHIN[kind]
        shutil.rmtree(RUN / name)
        with pytest.raises(_Probed):
            pipeline.artifact(whole)


@pytest.fixture(scope="module", autouse=True)
def read(runs: Runs) -> Iterator[dict[type[Step], set[str]]]:
    """The keys and artifacts that each kind of step has read while runs were made."""
    found: dict[type[Step], set[str]] = {kind: set() for kind in KINDS}
    patch = pytest.MonkeyPatch()
    inputs_init, view, declared = Inputs.__init__, RecipeView.__getattr__, Inputs._declared

    def init(self: Inputs, run: Any, step: Step, artifact: Any) -> None:
        inputs_init(self, run, step, artifact)
        self.recipe._reads = found[type(step)]

    def getattr_(self: RecipeView, name: str) -> Any:
        value = view(self, name)
        reads = self.__dict__["_reads"]
        path = f"{self._path}.{name}" if self._path else name
        if isinstance(value, RecipeView):
            value._reads = reads  # type: ignore[attr-defined]
        else:
            reads.add(path)
        return value

    def record(self: Inputs, *wanted: str) -> None:
        declared(self, *wanted)
        needs = self._step.needs.readable_artifacts
        found[type(self._step)].update(name for name in wanted if name in needs)

    patch.setattr(Inputs, "__init__", init)
    patch.setattr(Inputs, "_declared", record)
    patch.setattr(RecipeView, "__getattr__", getattr_)
    for name in READING:
        _ = runs[name]
    patch.undo()
    yield found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_step_reads_all_that_it_declares(
    read: dict[type[Step], set[str]], kind: type[Step]
) -> None:
    needs = SOME[kind].needs if kind in SOME else kind.needs
    declared = {*needs.recorded_keys, *needs.unrecorded_keys, *needs.readable_artifacts}
    assert declared - read[kind] == set(UNREAD.get(kind, {}))
