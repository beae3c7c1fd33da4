"""Every key of a recipe, what it means, and which values are refused."""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import TrainingArguments

from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.config.training import HONOURED, MANAGED, TRAINING
from tercet.core.schema import InputError

ROOT = Path(__file__).parents[2]

# Whoever adds, renames or removes a key changes what recipes may say: say so here and in the
# change log.
KEYS = """
name runs_dir seed time_budget
corpus.source corpus.path corpus.tenant corpus.dev_split corpus.test_split
corpus.passages.path corpus.passages.config corpus.passages.split corpus.passages.revision
corpus.passages.id corpus.passages.title corpus.passages.text corpus.passages.vector
corpus.queries.path corpus.queries.config corpus.queries.split corpus.queries.revision
corpus.queries.id corpus.queries.text corpus.queries.positives corpus.queries.negatives
corpus.queries.vector
corpus.passages.encoding corpus.passages.delimiter corpus.passages.quotes
corpus.passages.columns corpus.passages.sheet corpus.passages.ids
corpus.queries.encoding corpus.queries.delimiter corpus.queries.quotes
corpus.queries.columns corpus.queries.sheet
corpus.queries.separator corpus.queries.grade corpus.queries.clicks corpus.queries.click_grades
corpus.qrels.encoding corpus.qrels.delimiter corpus.qrels.quotes
corpus.qrels.columns corpus.qrels.sheet
corpus.qrels.path corpus.qrels.config corpus.qrels.split corpus.qrels.revision
corpus.qrels.query corpus.qrels.passage corpus.qrels.grade
corpus.revision corpus.unit corpus.passage_characters corpus.options
corpus.passages.chunk corpus.aggregate
queries.generators queries.count queries.per_passage queries.shard_passages
queries.generators.N.kind queries.generators.N.share queries.generators.N.model
queries.generators.N.engine queries.generators.N.gguf_file
queries.generators.N.style queries.generators.N.options
queries.generators.N.prompt queries.generators.N.examples
queries.generators.N.passage_tokens queries.generators.N.max_new_tokens
queries.generators.N.batch_size queries.generators.N.temperature
queries.generators.N.top_k queries.generators.N.top_p queries.generators.N.precision
queries.generators.N.endpoint queries.generators.N.key_variable queries.generators.N.api
queries.generators.N.judge queries.generators.N.request
queries.generators.N.dollars queries.generators.N.tokens
queries.generators.N.dollars_per_million_read queries.generators.N.dollars_per_million_written
queries.generators.N.concurrency queries.generators.N.requests_per_minute
negatives.retrievers negatives.candidates negatives.shard_queries negatives.max_positive_ratio
negatives.index.backend negatives.index.kind negatives.index.metric negatives.index.factory
negatives.index.ef negatives.index.nprobe negatives.index.on_disk
negatives.index.collection negatives.index.vector negatives.index.id negatives.index.tenant
negatives.index.options
negatives.retrievers.N.kind negatives.retrievers.N.share negatives.retrievers.N.model
negatives.retrievers.N.pooling
negatives.retrievers.N.k1 negatives.retrievers.N.b negatives.retrievers.N.language
negatives.retrievers.N.options negatives.retrievers.N.precision
teacher.name teacher.revision teacher.backend teacher.max_length teacher.precision
teacher.shard_pairs teacher.options
teacher.format teacher.instruction teacher.label teacher.answers
teacher.api teacher.endpoint teacher.key_variable teacher.dollars teacher.dollars_per_1000_searches
teacher.scorers teacher.scorers.N.kind teacher.scorers.N.weight
teacher.scorers.N.name teacher.scorers.N.revision teacher.scorers.N.backend
teacher.scorers.N.max_length teacher.scorers.N.precision teacher.scorers.N.shard_pairs
teacher.scorers.N.options teacher.scorers.N.format teacher.scorers.N.instruction
teacher.scorers.N.label teacher.scorers.N.answers teacher.scorers.N.api
teacher.scorers.N.endpoint teacher.scorers.N.key_variable teacher.scorers.N.dollars
teacher.scorers.N.dollars_per_1000_searches teacher.scorers.N.pooling
teacher.scorers.N.k1 teacher.scorers.N.b teacher.scorers.N.language
checkpoints.minutes
teacher.student_weight
triplets.calibration triplets.negatives_per_query
triplets.held_out triplets.filter_rank triplets.filter_percentile triplets.filter_max_matches
loss.kind loss.temperature loss.teacher_temperature loss.info_nce loss.info_nce_temperature
loss.false_negative_margin loss.matryoshka loss.options
model.name model.revision model.pooling model.similarity model.query_prompt model.passage_prompt
model.max_length model.query_max_length model.precision model.dropout
model.lora_rank model.lora_alpha
model.train model.passage_vectors model.api model.dollars
model.adapter_rank model.adapter_penalty
model.regression_passages
training.num_train_epochs training.learning_rate training.per_device_train_batch_size
training.gradient_accumulation_steps training.lr_scheduler_type training.warmup_steps
training.weight_decay training.bf16 training.logging_steps training.eval_strategy
training.save_strategy training.save_total_limit training.metric_for_best_model
training.dataloader_num_workers training.ddp_timeout
index.backend index.kind index.metric index.factory index.ef index.nprobe index.alias
index.on_disk index.collection index.vector index.id index.tenant index.options
evaluation.cutoffs evaluation.metrics evaluation.primary_metric evaluation.passages
evaluation.resamples evaluation.gate evaluation.leave_out evaluation.unanswerable
evaluation.interpolation_steps evaluation.early_stopping_patience
evaluation.systems evaluation.indexes evaluation.baseline
model.endpoint model.key_variable model.dollars_per_million_tokens
model.query_request model.passage_request
evaluation.systems.N.endpoint evaluation.systems.N.key_variable
evaluation.systems.N.query_prompt evaluation.systems.N.passage_prompt
evaluation.systems.N.query_request evaluation.systems.N.passage_request
evaluation.systems.N.dollars_per_million_tokens evaluation.systems.N.dollars_per_1000_searches
evaluation.systems.N.kind evaluation.systems.N.name evaluation.systems.N.top_k
evaluation.systems.N.truncate_dim evaluation.systems.N.api evaluation.systems.N.dollars
evaluation.systems.N.model evaluation.systems.N.revision
evaluation.systems.N.pooling evaluation.systems.N.of
evaluation.systems.N.depth evaluation.systems.N.teacher evaluation.systems.N.passages
evaluation.systems.N.weight
evaluation.systems.N.queries evaluation.systems.N.similarity evaluation.systems.N.k1
evaluation.systems.N.b evaluation.systems.N.language evaluation.systems.N.options
evaluation.systems.N.dollars_per_1000_queries evaluation.systems.N.dollars_per_million_passages
evaluation.indexes.N.backend evaluation.indexes.N.kind evaluation.indexes.N.metric
evaluation.indexes.N.factory evaluation.indexes.N.ef evaluation.indexes.N.nprobe
evaluation.indexes.N.name evaluation.indexes.N.on_disk
evaluation.indexes.N.collection evaluation.indexes.N.vector evaluation.indexes.N.id
evaluation.indexes.N.tenant evaluation.indexes.N.options
evaluation.latency_queries evaluation.latency_batch_size evaluation.latency_budget_seconds
evaluation.out_of_domain_path evaluation.out_of_domain_split
ingest.collection ingest.vector ingest.kind ingest.metric
tracking.report_to tracking.project
chat.model chat.gguf_file chat.endpoint chat.system chat.passages chat.threshold
chat.passage_characters chat.max_new_tokens chat.temperature
""".split()


def keys_of(kind: type, path: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], f"{path}{field.name}"
        inner = [a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)]
        if dataclasses.is_dataclass(hint):
            yield from keys_of(typing.cast(type, hint), f"{name}.")
        elif name == "training":
            yield from ((f"training.{name}", field) for name in TRAINING)
        else:
            yield name, field
        for element in inner:
            yield from keys_of(element, f"{name}.N.")


def load(text: str, folder: Path, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, ["--corpus.path", "somewhere", *overrides])


def refusal(text: str, folder: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(text, folder, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder}/")


def test_the_keys_of_a_recipe_are_these() -> None:
    assert sorted(name for name, _ in keys_of(Recipe)) == sorted(KEYS)


def test_every_key_says_what_it_means_in_a_line() -> None:
    for name, field in keys_of(Recipe):
        meaning = field.metadata["meaning"]
        assert meaning and "\n" not in meaning and not meaning.endswith("."), name
    for name, (_, meaning) in TRAINING.items():
        assert meaning and not meaning.endswith("."), name


def test_the_defaults_pass_their_own_checks(tmp_path: Path) -> None:
    defaults = Recipe()
    text = f"training: {{learning_rate: {defaults.training['learning_rate']}}}"
    recipe = load(text, tmp_path)
    assert recipe == dataclasses.replace(defaults, corpus=recipe.corpus)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_of_the_checkout_load(path: Path) -> None:
    tables = "source: tables" in path.read_text()
    recipe = load_recipe(path, [] if tables else ["--corpus.path", "somewhere"])
    assert recipe.name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {learning_rte: 1}", "unknown key 'learning_rte' in training; did you mean "),
        ("training: {learning_rate: fast}", "training.learning_rate must be a number, not 'fast'"),
        ("training: {learning_rate: null}", "training.learning_rate must have a value"),
        ("training: {learning_rate: -1}", "training.learning_rate must be at least 0, not -1.0"),
        ("training: {learning_rate: [1]}", "training.learning_rate must be one value, not [1]"),
        ("training: {num_train_epochs: true}", "training.num_train_epochs must be a number"),
        (
            "training: {per_device_train_batch_size: 0}",
            "training.per_device_train_batch_size must be at least 1, not 0",
        ),
        (
            "training: {per_device_train_batch_size: 1.5}",
            "training.per_device_train_batch_size must be a whole number, not 1.5",
        ),
        ("training: {bf16: 1}", "training.bf16 must be true or false, not 1"),
        ("training: [a]", "training must be a mapping of keys"),
        (
            "training: {metric_for_best_model: map@7}",
            "training.metric_for_best_model 'map@7' is not measured; did you mean 'map@",
        ),
        ("evaluation: {cutoffs: [3]}", "training.metric_for_best_model 'mrr@10' is not measured"),
        ("queries: {generators: []}", "at least one generator and one retriever are needed"),
        ("negatives: {retrievers: []}", "at least one generator and one retriever are needed"),
        (
            "queries: {generators: [{kind: seq2seq}]}",
            "queries.generators.0 is seq2seq, which needs a `model`",
        ),
        (
            "queries: {generators: [{kind: causal, model: m, prompt: Ask.}]}",
            "queries.generators.0.prompt must contain {passage}",
        ),
        (
            "queries: {generators: [{kind: causal, model: m, examples: [[a]]}]}",
            "queries.generators.0.examples must be pairs [passage, query]",
        ),
        (
            "{negatives: {candidates: 3}, triplets: {negatives_per_query: 5}}",
            "triplets.negatives_per_query (5) is more than ",
        ),
        ("model: {lora_alpha: 8}", "model.lora_alpha is LoRA's: give model.lora_rank too"),
        (
            "evaluation: {systems: [{kind: bm25, name: a, truncate_dim: 8}]}",
            "evaluation.systems: 'a' is bm25: `truncate_dim` is for base, adapted, dense and",
        ),
        (
            "evaluation: {systems: [{kind: api, model: m}]}",
            "evaluation.systems: 'm' is api: give its `api`",
        ),
        (
            "evaluation: {systems: [{kind: dense, model: m, api: cohere}]}",
            "evaluation.systems: 'm' is dense: `api` is for kind api",
        ),
        (
            "evaluation: {systems: [{kind: bm25}, {kind: cohere, model: m}]}",
            "evaluation.systems.1.kind cohere is now {kind: api, api: cohere}",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert re.match(rf"r\.yaml:1: {re.escape(message)}", refusal(text, tmp_path))


def test_the_nearest_name_of_training_arguments_is_offered(tmp_path: Path) -> None:
    message = refusal("name: x\ntraining:\n  bf16: false\n  weight_decy: 1", tmp_path)
    assert (
        message == "r.yaml:4: unknown key 'weight_decy' in training; did you mean 'weight_decay'?"
    )


def test_each_name_of_training_arguments_is_honoured_or_refused_with_what_decides() -> None:
    theirs = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
    assert theirs == {*TRAINING, *HONOURED, *MANAGED}
    assert len(theirs) == len(TRAINING) + len(HONOURED) + len(MANAGED), "a name stands twice"


def test_a_hint_names_no_argument_that_would_be_refused_next(tmp_path: Path) -> None:
    message = refusal("", tmp_path, "--training.use_ipex", "true")
    assert not re.search(r"\b(use_cpu|output_dir)\b", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{eval_steps: 3}", "training.eval_steps does nothing with training.eval_strategy epoch"),
        ("{save_steps: 3}", "training.save_steps does nothing with training.save_strategy epoch"),
        (
            "{activation_checkpointing_kwargs: {use_reentrant: false}}",
            "training.activation_checkpointing_kwargs does nothing with "
            "training.activation_checkpointing unset",
        ),
        ("{adam_epsilon: .inf}", "training.adam_epsilon must be a finite number"),
        (
            "{lr_scheduler_kwargs: {min_lr: .nan}}",
            "training.lr_scheduler_kwargs.min_lr must be a finite number",
        ),
    ],
)
def test_an_argument_that_would_do_nothing_or_harm_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    assert message in refusal(f"training: {text}", tmp_path)


@pytest.mark.parametrize("name", sorted(MANAGED))
def test_what_other_keys_decide_cannot_be_given(tmp_path: Path, name: str) -> None:
    message = refusal("", tmp_path, f"--training.{name}", "true")
    assert message.startswith(f"--training.{name}: training.{name} follows from ")


def test_all_that_training_sets_itself_is_managed() -> None:
    tree = ast.parse((ROOT / "modeling" / "training" / "trainer.py").read_text())
    function = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "training_arguments"
    )
    names = {
        key.value
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert names - {"metric_for_best_model"} <= set(MANAGED)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "2e-5", 2e-5),
        ("learning_rate", "1", 1.0),
        ("warmup_steps", "10", 10.0),
        ("bf16", "null", None),
        ("neftune_noise_alpha", "0.5", 0.5),
        ("optim", "adamw_torch", "adamw_torch"),
        ("logging_strategy", "no", "no"),
        ("max_steps", "7", 7),
        ("save_total_limit", "null", None),
        ("lr_scheduler_kwargs", "{min_lr: 0.1}", {"min_lr": 0.1}),
        ("lr_scheduler_kwargs", "{min_lr: 1e-6, n: 3}", {"min_lr": 1e-6, "n": 3}),
        ("optim_args", "{momentum: 1e-1, nesterov: true}", "momentum=0.1,nesterov=True"),
        ("optim_args", "momentum=1e-1", "momentum=1e-1"),
        ("torch_compile", "true", True),
    ],
)
def test_training_arguments_keep_their_types(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    given = load(f"training: {{{name}: {text}}}", tmp_path).training[name]
    assert (given, type(given)) == (value, type(value))
    flag = f"--training.{name.replace('_', '-')}={text}"
    assert load("", tmp_path, flag).training[name] == value


def test_what_training_does_not_say_has_its_default(tmp_path: Path) -> None:
    recipe = load("training: {max_steps: 7}", tmp_path)
    assert recipe.training == {name: value for name, (value, _) in TRAINING.items()} | {
        "max_steps": 7
    }


def test_a_recipe_without_a_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\ncorpus:\n  source: beir\n")
    with pytest.raises(InputError, match=r"r.yaml:2: corpus.path is not set"):
        load_recipe(path)
