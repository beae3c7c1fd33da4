from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import LOSSES, Drawn, train_with_every_loss, trainer
from transformers import TrainerControl, TrainerState, TrainingArguments

from tercet.config.loading import load_recipe
from tercet.core.disk import told
from tercet.core.schema import Diverged, InputError
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.training.callbacks import FiniteGradients
from tercet.modeling.training.checkpoints import ASIDE, checkpoints_in, last_checkpoint
from tercet.modeling.training.collator import IGNORED, TripletCollator, margins
from tercet.modeling.training.gradient_cache import GradientCache
from tercet.modeling.training.trainer import MarginMSETrainer, training_arguments
from tercet.retrieval import ExactIndex

ROOT = Path(__file__).parents[3]
#: Losses of lists, which a batch may be cut up for.
OF_LISTS = {name: options for name, options in LOSSES.items() if "info_nce" not in name}

#: Losses that targets enter.
OF_TARGETS = {name: options for name, options in LOSSES.items() if name != "info_nce"}


@pytest.fixture
def texts(tiny_texts: list[str]) -> dict[str, str]:
    return {f"p{i}": text for i, text in enumerate(tiny_texts[:40])}


@pytest.fixture
def encoder(tiny_encoder_path: Path) -> BiEncoder:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    encoder.set_dropout(0.0)
    return encoder


def test_a_batch_encodes_each_passage_once(encoder: BiEncoder, texts: dict[str, str]) -> None:
    items = [
        {"query": 0, "passages": ["p1", "p2", "p3"], "margins": np.array([0.5, 0.25], np.float32)},
        {"query": 1, "passages": ["p2", "p1"], "margins": np.array([0.125], np.float32)},
    ]
    batch = TripletCollator.of_texts(encoder, ["one", "two"], texts)(items)
    assert batch["passage"]["input_ids"].shape[0] == 3
    assert batch["labels"].tolist() == [[0.5, 0.25], [0.125, IGNORED]]
    vectors = torch.eye(3)
    scores = margins(vectors[:2], vectors, batch["positive"], batch["negative"])
    assert scores[0].tolist() == [1.0, 1.0]  # its positive is row 0; rows 1 and 2 score 0
    assert scores[1, 0].item() == 1.0


def test_passages_of_one_text_are_one_passage(encoder: BiEncoder, texts: dict[str, str]) -> None:
    items = [
        {"query": 0, "passages": ["p1", "twin"], "margins": np.array([0.5], np.float32)},
        {"query": 0, "passages": ["p2", "p1"], "margins": np.array([0.5], np.float32)},
    ]
    collator = TripletCollator.of_texts(encoder, ["one"], texts | {"twin": texts["p1"]})
    batch = collator(items)
    assert (batch["positive"].tolist(), batch["negative"].tolist()) == ([0, 1], [[0], [0]])
    assert batch["passage_number"].tolist() == [1, 2]
    assert collator(items[::-1])["passage_number"].tolist() == [2, 1]


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], atol: float) -> None:
    assert max(float(x.abs().max()) for x in expected) > 100 * atol  # there is something to see
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=atol)


@pytest.mark.parametrize("options", OF_LISTS.values(), ids=OF_LISTS)
@pytest.mark.parametrize("cut", [(1, 8), (3, 3)], ids=str)
def test_loss_and_gradients_do_not_depend_on_how_a_batch_is_cut(
    tiny_encoder_path: Path,
    texts: dict[str, str],
    tmp_path: Path,
    cut: tuple[int, int],
    options: list[str],
) -> None:
    def step(size: int, accumulated: int) -> tuple[float, list[torch.Tensor]]:
        encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
        encoder.set_dropout(0.0)
        accumulation = f"--training.gradient_accumulation_steps={accumulated}"
        run = trainer(encoder, texts, tmp_path, accumulation, *options)
        items = [run.train_dataset[i] for i in range(8)]
        batches = [run.data_collator(items[i : i + size]) for i in range(0, 8, size)]
        counted = run._get_num_items_in_batch(batches, torch.device("cpu"))
        run.current_gradient_accumulation_steps = len(batches)
        run.create_optimizer()
        loss = sum(run.training_step(run.model, batch, counted) for batch in batches)
        return float(loss), gradients(encoder.backbone)

    loss, grads = step(8, 1)
    cut_loss, cut_grads = step(*cut)
    assert cut_loss == pytest.approx(loss, abs=1e-5)
    assert_close(cut_grads, grads, atol=1e-5)


def test_encoding_in_chunks_of_like_length_changes_neither_loss_nor_gradients(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path)
    batch = run.data_collator([run.train_dataset[i] for i in range(8)])
    assert len(set(batch["passage"]["attention_mask"].sum(dim=1).tolist())) > 1
    loss, grads = plain_step(run, batch)
    for tokens in (1, 100, 100_000):
        run.chunk_tokens = tokens
        cut_loss, cut_grads = cached_step(run, batch)
        assert cut_loss == pytest.approx(loss, abs=1e-5)
        assert_close(cut_grads, grads, atol=1e-5)


def plain_step(run: MarginMSETrainer, batch: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients with the whole batch encoded at once."""
    run.model.zero_grad()
    vectors = [
        run.student.pool(run.model(**batch[side]).last_hidden_state, batch[side]["attention_mask"])
        for side in ("query", "passage")
    ]
    loss = run.objective(*vectors, batch) / batch["labels"].ne(IGNORED).sum()
    loss.backward()
    return loss.item(), gradients(run.model)


def cached_step(run: MarginMSETrainer, batch: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    run.model.zero_grad()
    run.create_optimizer()
    loss = run.training_step(run.model, batch, batch["labels"].ne(IGNORED).sum())
    return loss.item(), gradients(run.model)


@pytest.mark.parametrize("chunk_tokens", [1, 100, 100_000])
def test_gradient_caching_gives_the_plain_gradients(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, chunk_tokens: int
) -> None:
    run = trainer(encoder, texts, tmp_path, "--loss.info_nce=0.5")
    run.chunk_tokens = chunk_tokens
    batch = run.data_collator([run.train_dataset[i] for i in range(8)])
    loss, grads = plain_step(run, batch)
    cached_loss, cached_grads = cached_step(run, batch)
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    assert_close(cached_grads, grads, atol=1e-5)


def test_info_nce_alone_is_the_rest_of_a_loss_less_its_list_loss(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    losses = {}
    for name in ("kind=info_nce", "kind=all_pairs", "info_nce=1"):
        run = trainer(encoder, texts, tmp_path, f"--loss.{name}")
        losses[name], _ = plain_step(
            run, run.data_collator([run.train_dataset[i] for i in range(8)])
        )
    alone, lists, both = losses.values()
    assert both == pytest.approx(alone + lists, rel=1e-5) and min(losses.values()) > 0


def test_gradient_caching_under_autocast(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path, "--loss.info_nce=0.5", "--training.bf16=true")
    run.chunk_tokens = 100
    model = run.accelerator.prepare_model(run.model)
    batch = run.data_collator([run.train_dataset[i] for i in range(8)])
    assert model.forward is not type(model).forward
    loss, grads = plain_step(run, batch)
    cached_loss, cached_grads = cached_step(run, batch)
    assert cached_loss == pytest.approx(loss, rel=0.02)
    whole, cached = (torch.cat([g.flatten() for g in each]) for each in (grads, cached_grads))
    assert torch.cosine_similarity(whole, cached, dim=0) > 0.99


def test_an_encoding_that_is_replayed_drops_what_it_dropped_before(encoder: BiEncoder) -> None:
    encoder.set_dropout(0.3)
    encoder.backbone.train()
    inputs = encoder.collate(encoder.tokenize(["one", "two three", "four five six", "x"], "query"))

    def encode(part: Any) -> torch.Tensor:
        states = encoder.backbone(**part).last_hidden_state
        return encoder.pool(states, part["attention_mask"])

    torch.manual_seed(0)
    cache = GradientCache(encode, [inputs, inputs], chunk_tokens=8)
    assert len(cache.chunks) > 2
    assert not torch.allclose(*cache.vectors, atol=1e-3)
    after = torch.get_rng_state()
    for chunk in reversed(cache.chunks):
        expected = cache.vectors[chunk.side][chunk.rows]
        assert torch.equal(chunk.encoded_again(encode), expected)
    assert torch.equal(torch.get_rng_state(), after)


def test_near_positives_and_the_positives_twins_are_no_negatives(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts | {"twin": texts["p1"]}, tmp_path, "--loss.info_nce=1")
    margins = np.array([0.001, 0.3], np.float32)
    items = [
        # p4 was not drawn from the first query's list, but is here by the second's; p9 is not.
        {
            "query": 0,
            "passages": ["p1", "p2", "p3"],
            "margins": margins,
            "near": ["p2", "p4", "p9"],
        },
        {"query": 1, "passages": ["p4", "p5", "twin"], "margins": margins, "near": ["p5"]},
    ]
    batch = run.data_collator(items)
    assert len(batch["passage_number"]) == 5
    query = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    passage = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = run.objective(query, passage, batch)
    (loss - run.objective.of_lists(*lists(query, passage, batch))).backward()
    # The first query's near-positive moves for the second query alone, and the other way round.
    scores = query @ passage.detach().T / 0.05
    for own, near in ((0, 1), (1, 4)):
        others = scores[1 - own].clone()
        others[[4] if own == 0 else [1, 3]] = -torch.inf
        expected = 2 * others.softmax(0)[near] * query[1 - own] / 0.05
        assert torch.allclose(passage.grad[near], expected, atol=1e-5)


def test_matryoshka_is_the_mean_of_the_loss_over_cut_vectors(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path, "--loss.matryoshka=[3, 6]")
    batch = run.data_collator([run.train_dataset[row] for row in range(4)])
    whole = [torch.nn.functional.normalize(torch.randn(n, 9), dim=1) for n in (4, 9)]
    whole[1] = torch.nn.functional.normalize(torch.randn(len(batch["passage_number"]), 9), dim=1)
    expected = []
    for width in (9, 3, 6):
        query, passage = (torch.nn.functional.normalize(x[:, :width], dim=1) for x in whole)
        expected.append(run.objective.of_lists(*lists(query, passage, batch)))
    assert torch.allclose(run.objective(*whole, batch), torch.stack(expected).mean())
    with pytest.raises(InputError, match="matryoshka"):
        trainer(encoder, texts, tmp_path, f"--loss.matryoshka=[{encoder.dimension}]")


def lists(query: torch.Tensor, passage: torch.Tensor, batch: dict[str, Any]) -> Any:
    student = margins(query, passage, batch["positive"], batch["negative"])
    return student, batch["labels"], batch["labels"].ne(IGNORED)


@pytest.mark.long
def test_two_processes_learn_what_one_does_with_every_loss(
    tiny_encoder_path: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    folders = [tmp_path / "one", tmp_path / "two"]
    train_with_every_loss(tiny_encoder_path, texts, folders[0], batch=8)
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    config = ["--config_file", str(ROOT / "accelerate_config.yaml")]
    program = [str(ROOT / "tests" / "support" / "tiny_training.py"), str(tiny_encoder_path)]
    arguments = [str(tmp_path / "texts.json"), str(folders[1]), "4"]
    command = [*accelerate, *config, *program, *arguments]
    two = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert two.returncode == 0, two.stderr[-3000:]
    start = BiEncoder.from_pretrained(tiny_encoder_path).backbone.state_dict()
    for name in LOSSES:
        one, two_of = (torch.load(folder / f"{name}.pt") for folder in folders)
        assert two_of["losses"] == pytest.approx(one["losses"], abs=1e-5), name
        moved = max(float((one["weights"][key] - start[key]).abs().max()) for key in start)
        assert moved > 1e-3, name
        for key, weight in one["weights"].items():
            assert torch.allclose(two_of["weights"][key], weight, atol=1e-5), (name, key)


def test_training_evaluates_zero_shot_first_and_saves_what_sentence_transformers_loads(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    run = trainer(
        encoder, texts, tmp_path, "--training.learning_rate=1e-3", "--training.num_train_epochs=2"
    )
    run.train()
    figures = [entry for entry in run.state.log_history if "eval_map@10" in entry]
    assert [entry["epoch"] for entry in figures] == [0, 1, 2]
    assert run.evaluation.searches == 3
    checkpoint = last_checkpoint(tmp_path / "run" / "training")
    assert checkpoint
    text = list(texts.values())[0]
    ours = BiEncoder.from_pretrained(checkpoint, precision="fp32").encode_passages([text])
    theirs = SentenceTransformer(checkpoint, device="cpu").encode([text])
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.fault("a killed checkpoint")
def test_a_checkpoint_that_was_cut_short_is_put_aside_and_the_one_before_is_used(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    trainer(
        encoder, texts, tmp_path, "--training.num_train_epochs=2", "--training.save_total_limit=3"
    ).train()
    folder = tmp_path / "run" / "training"
    newest, before = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name[11:]))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert last_checkpoint(folder) == str(before)
    assert not newest.exists() and (folder / ASIDE).exists()


@pytest.mark.fault("a full disk")
def test_the_room_of_a_checkpoint_is_known_before_it_is_written(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path)
    before = run.checkpoint_bytes()
    run.train()
    checkpoint = Path(last_checkpoint(tmp_path / "run" / "training") or "")
    large = [checkpoint / name for name in ("model.safetensors", "optimizer.pt")]
    written = sum(file.stat().st_size for file in large)
    assert before == pytest.approx(written, rel=0.1)
    assert run.checkpoint_bytes() == pytest.approx(written, rel=0.1)


@pytest.mark.fault("a full disk")
def test_a_checkpoint_without_room_is_told_and_the_one_before_stays(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(encoder, texts, tmp_path, "--training.num_train_epochs=2")
    folder = tmp_path / "run" / "training"
    free = lambda place: 10**12 if not checkpoints_in(folder) else 10_000  # noqa: E731
    monkeypatch.setattr("tercet.core.disk.free_space", free)
    with pytest.raises(OSError) as caught:
        run.train()
    (first,) = checkpoints_in(folder)
    assert last_checkpoint(folder) == str(first)
    line = str(told(caught.value))
    assert "/training/checkpoint-" in line and "a checkpoint takes" in line and "10 kB left" in line


@pytest.mark.fault("failing writes")
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_of_itself(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(encoder, texts, tmp_path)

    def failing(*given: object, **named: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr("torch.save", failing)
    with pytest.raises(OSError) as caught:
        run.train()
    folder = tmp_path / "run" / "training"
    assert not list(folder.glob("checkpoint-*")) and not (folder / ASIDE).exists()
    assert str(told(caught.value)).startswith(f"{folder}/checkpoint-")


@pytest.mark.fault("failing writes")
def test_curves_that_cannot_be_written_are_said_once_and_do_not_end_the_training(
    encoder: BiEncoder,
    texts: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trainer(encoder, texts, tmp_path)
    (tmp_path / "run" / "training" / "curves.jsonl").mkdir(parents=True)
    run.train()
    assert capsys.readouterr().out.count("curves.jsonl: Is a directory: the curves are") == 1


@pytest.mark.fault("divergence")
@pytest.mark.parametrize("options", OF_TARGETS.values(), ids=OF_TARGETS)
def test_a_loss_that_is_not_finite_stops_training_before_it_reaches_the_weights(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    run = trainer(encoder, texts, tmp_path, *options)
    run.train_dataset.items[3]["margins"][0] = np.nan
    with pytest.raises(Diverged, match="loss is nan at step 0, with query '3'; last .*: none"):
        run.train()
    assert all(torch.isfinite(p).all() for p in encoder.backbone.parameters())


@pytest.mark.fault("divergence")
def test_the_queries_at_fault_and_the_last_checkpoint_are_named(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    saved = ["--training.num_train_epochs=2", "--training.per_device_train_batch_size=8"]
    run = trainer(encoder, texts, tmp_path, *saved)
    run.train_dataset.query_ids = [f"q{row}" for row in range(16)]
    items, drawn = run.train_dataset.items, run.train_dataset.set_epoch

    def spoil(epoch: int) -> None:
        drawn(epoch)
        if epoch:
            items[5]["margins"][0] = 1e30  # its square is beyond float32

    run.train_dataset.set_epoch = spoil
    with pytest.raises(Diverged) as caught:
        run.train()
    line = str(caught.value)
    assert re.match(r"training diverged: the loss is (nan|inf) at step \d", line)
    assert "\n" not in line
    assert "with query 'q5'; last checkpoint: " in line
    kept = last_checkpoint(tmp_path / "run" / "training")
    assert kept and f"last checkpoint: {kept}." in line
    assert caught.value.exit_code == 4


@pytest.mark.fault("divergence")
def test_weights_that_are_not_finite_are_neither_measured_nor_saved(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path)
    with torch.no_grad():
        next(encoder.backbone.parameters()).view(-1)[0] = torch.inf
    for work in (run.evaluate, lambda: run._save_checkpoint(run.model, None)):
        with pytest.raises(Diverged, match="a weight is not finite at step 0; last"):
            work()
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_arguments_that_contradict_one_another_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("corpus: {path: x}\ntraining: {eval_strategy: steps, eval_steps: 5}\n")
    with pytest.raises(InputError, match="^training: ") as error:
        training_arguments(load_recipe(path))
    assert "\n" not in str(error.value)


def test_info_nce_over_accumulated_batches_is_refused_with_what_to_do_instead(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.yaml"
    for loss in ("info_nce: 1", "kind: info_nce"):
        path.write_text(
            f"corpus: {{path: x}}\nloss: {{{loss}}}\ntraining:\n  gradient_accumulation_steps: 2\n"
        )
        with pytest.raises(InputError, match="r.yaml:4: .*training.per_device_train_batch_size"):
            load_recipe(path)


def test_weights_that_were_encoded_last_are_not_encoded_again(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation, kinds, encode = trainer(encoder, texts, tmp_path).evaluation, [], encoder.encode
    monkeypatch.setattr(
        encoder,
        "encode",
        lambda texts, kind, **k: [kinds.append(kind), encode(texts, kind, **k)][1],
    )
    first = evaluation.measure()
    assert evaluation.measure() == first and kinds.count("passage") == 1
    weight = next(encoder.backbone.parameters())
    with torch.no_grad():
        weight[0, 0] += 1e-6  # the least step is another model
    evaluation.measure()
    assert kinds.count("passage") == 2


def test_every_epoch_is_searched_with_the_vectors_of_its_own_weights(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    options = ["--training.num_train_epochs=2", "--training.per_device_train_batch_size=4"]
    run = trainer(encoder, texts, tmp_path, "--training.learning_rate=1e-2", *options)
    searched: list[tuple[np.ndarray, np.ndarray]] = []

    class Recording(ExactIndex):
        def build(self, ids: Any, vectors: Any) -> None:
            searched.append((np.array(vectors), encoder.encode_passages(list(texts.values()))))
            super().build(ids, vectors)

    run.evaluation.make_index = Recording
    zero_shot = run.evaluation.zero_shot_vectors = encoder.encode_passages(list(texts.values()))
    run.train()
    assert len(searched) == 3
    for vectors, by_weights in searched:
        assert np.allclose(vectors, by_weights, atol=1e-5)
    assert np.array_equal(searched[0][0], zero_shot)
    assert np.abs(searched[1][0] - zero_shot).max() > 1e-3


def test_each_epoch_trains_on_its_own_draws_and_one_that_is_resumed_halfway_on_the_same(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []

    class Recording(Drawn):
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __getitem__(self, row: int) -> dict[str, Any]:
            read.append((self.epoch, row))
            return super().__getitem__(row)

    monkeypatch.setattr("tiny_training.Drawn", Recording)
    options = ["--training.num_train_epochs=2", "--training.per_device_train_batch_size=8"]
    options += ["--training.eval_strategy=steps", "--training.save_strategy=steps"]
    options += ["--training.eval_steps=3", "--training.save_steps=3"]
    trainer(encoder, texts, tmp_path, *options).train()
    whole = read.copy()
    assert sorted(whole) == [(epoch, row) for epoch in range(2) for row in range(16)]
    read.clear()
    # accelerate tells the dataset its epoch too, but neither here nor in several processes.
    halfway = tmp_path / "run" / "training" / "checkpoint-3"
    trainer(encoder, texts, tmp_path, *options).train(resume_from_checkpoint=str(halfway))
    assert read == whole[-8:]


@pytest.mark.fault("divergence")
@pytest.mark.parametrize("value", [np.inf, np.nan], ids=str)
def test_a_gradient_that_is_not_finite_stops_training_before_it_reaches_the_weights(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, value: float
) -> None:
    # Clipping would spread it over all of them.
    run = trainer(encoder, texts, tmp_path, "--training.max_grad_norm=0")
    before = {name: weight.clone() for name, weight in encoder.backbone.state_dict().items()}
    next(encoder.backbone.parameters()).register_hook(lambda gradient: gradient + value)
    with pytest.raises(Diverged, match="gradient is not finite at step 0, with queries '"):
        run.train()
    for name, weight in encoder.backbone.state_dict().items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.fault("divergence")
def test_one_gradient_that_is_not_finite_is_enough_to_stop(tmp_path: Path) -> None:
    # The Trainer spreads it over all gradients where it clips; where it does not, one is left.
    model = torch.nn.Linear(2, 2)
    model.weight.grad, model.bias.grad = torch.ones(2, 2), torch.tensor([0.0, np.nan])
    step = TrainingArguments(output_dir=str(tmp_path)), TrainerState(), TrainerControl()
    with pytest.raises(Diverged, match="gradient is not finite"):
        FiniteGradients(Diverged).on_pre_optimizer_step(*step, model=model)
    model.bias.grad = torch.zeros(2)
    FiniteGradients(Diverged).on_pre_optimizer_step(*step, model=model)


def test_the_best_checkpoint_outlives_later_ones_and_is_what_training_ends_with(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = ("--training.num_train_epochs=4", "--training.save_total_limit=2")
    run = trainer(encoder, texts, tmp_path, "--training.learning_rate=1e-3", *epochs)
    figures = [0.1, 0.5, 0.9, 0.3, 0.2]
    weights: list[torch.Tensor] = []

    def measure(name: str, **given: Any) -> Any:
        weights.append(next(encoder.backbone.parameters()).detach().clone())
        figure = {"q": figures[len(weights) - 1]}
        return {"validation": {name: figure for name in run.evaluation.metrics}}

    monkeypatch.setattr(run.evaluation, "measure", measure)
    run.train()
    steps = run.state.max_steps // 4
    left = {path.name for path in (tmp_path / "run" / "training").glob("checkpoint-*")}
    assert left == {f"checkpoint-{2 * steps}", f"checkpoint-{4 * steps}"}
    assert not torch.equal(weights[2], weights[4])
    assert torch.equal(next(encoder.backbone.parameters()), weights[2])
