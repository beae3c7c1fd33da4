"""Passages and the vectors that an index holds of them -> a query encoder of that index's space.

Whatever made the vectors need not be at hand: a closed-form projection of the base model's own
vectors starts it, and gradient descent on the distance to the stored ones does the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import TrainingArguments

from tercet.artifacts import differences, is_main_process
from tercet.console import console
from tercet.files import read_json, replacing, write_json
from tercet.mapped import BLOCK, Vectors
from tercet.model_settings import RegressionSettings
from tercet.modeling.batching import encode_cut
from tercet.modeling.callbacks import EpochDraws, FiniteGradients, from_first_process
from tercet.modeling.encoder import BiEncoder
from tercet.modeling.precision import inference_dtype
from tercet.modeling.resumable import ResumableTrainer, last_checkpoint
from tercet.modeling.st_files import Similarity
from tercet.modeling.trainer import CHUNK_TOKENS
from tercet.schema import InputError

PLAN, START = "_plan.json", "_start.npz"
FEWEST, START_PASSAGES = 20, 20_000  # passages: to learn from at all, and of the closed form
#: Words of a span that stands for a query.
SHORTEST, LONGEST = 3, 30
#: Ridge penalties, as parts of the mean variance of a dimension.
PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_HELD_OUT, _MOST_HELD_OUT = 0.05, 1_000


@dataclass(frozen=True)
class RegressionOutcome:
    """What regression came to: the held-out figures of the start and each epoch, and counts."""

    history: list[dict[str, Any]]
    facts: dict[str, Any]


def regress(
    encoder: BiEncoder,
    contents: Sequence[str],
    vectors: Vectors,
    *,
    similarity: Similarity,
    settings: RegressionSettings,
    folder: Path,
    seed: int,
    plan: Mapping[str, Any] | None = None,
) -> RegressionOutcome:
    """Bring the vectors that `encoder` makes of passages near the stored `vectors`, in place.

    `similarity` is that of the space, float32 [passages, dimension]. It resumes from the last
    whole checkpoint in `folder`, unless that is of other settings or another `plan` (JSON: what
    the texts and vectors are), and ends with the best epoch's weights, or the closed form's where
    no epoch is better. Texts are read as queries are, for queries are what it will encode.
    Raises InputError for too few passages.
    """
    rows = np.random.default_rng(seed).permutation(len(contents))[: settings.passages]
    if len(rows) < FEWEST:
        raise InputError(
            f"{len(rows)} passages are too few to learn their vectors from: {FEWEST} are needed"
        )
    args = _arguments(encoder, settings, folder, seed)
    given = {"settings": asdict(settings), "seed": seed, "similarity": similarity}
    given |= {"model": encoder.identity, "config": asdict(encoder.config)}
    given |= {"passages": len(contents), "processes": args.world_size, "plan": dict(plan or {})}
    with PartialState().main_process_first():
        if is_main_process():
            _begin(folder, json.loads(json.dumps(given)))
        checkpoint = last_checkpoint(folder)
    args.eval_on_start = checkpoint is None

    count = max(1, min(_MOST_HELD_OUT, round(_HELD_OUT * len(rows))))
    targets = Targets(vectors, similarity)
    draws = PassageDraws(contents, rows[count:], crop=settings.crop, seed=seed)
    held_out = HeldOut(encoder, contents, rows[:count], targets, crop=settings.crop, seed=seed)
    start = _start(folder / START, encoder, draws, held_out)
    encoder.project(start["weight"], start["bias"], similarity)
    encoder.set_dropout(0.0)  # the map was found without, and enlarges its noise
    targets.scale = float(start["scale"])
    started = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}

    if settings.num_train_epochs:
        history = _train(RegressionTrainer(encoder, args, draws, held_out), checkpoint)
    else:
        history = [{"epoch": 0, "step": 0} | from_first_process(held_out.figures)]
    best = min(history, key=lambda entry: entry["loss"])  # of equals, the first
    if best["step"] == 0:
        encoder.backbone.load_state_dict(started)
    encoder.backbone.eval()
    facts = {
        "passages": len(rows),
        "held_out": count,
        "penalty": float(start["penalty"]),
        "start_cosine": history[0]["cosine"],
        "cosine": best["cosine"],
        "best_epoch": best["epoch"],
    }
    return RegressionOutcome(history, facts)


class Targets:
    """The stored vectors of passages: of unit length where cosine compares them."""

    def __init__(self, vectors: Vectors, similarity: Similarity) -> None:
        self._vectors, self.similarity = vectors, similarity
        #: What squared distances are divided by, so that they are alike in any space.
        self.scale = 1.0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 [rows, dimension]."""
        return self.compared(np.asarray(self._vectors[rows], np.float32))

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """[rows, dimension] as the space compares them."""
        if self.similarity == "dot":
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class PassageDraws:
    """A dataset of passages, in each epoch whole or a few of their words: queries are short."""

    def __init__(
        self, contents: Sequence[str], rows: np.ndarray, *, crop: float, seed: int
    ) -> None:
        self._contents, self.rows = contents, rows
        self._crop, self._seed, self._epoch = crop, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Other spans for another epoch, the same for the same."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = int(self.rows[position])
        # Epoch 0 is the held-out passages'.
        random = np.random.default_rng((self._seed, self._epoch + 1, row))
        text = self._contents[row]
        return {"row": row, "text": words(text, random) if random.random() < self._crop else text}


class HeldOut:
    """Passages that nothing is learnt from, and how near their vectors come to the stored ones."""

    #: Its figures, as the Trainer logs them.
    logged = ("eval_loss", "eval_cosine", "eval_words_cosine")

    def __init__(
        self,
        encoder: BiEncoder,
        contents: Sequence[str],
        rows: np.ndarray,
        targets: Targets,
        *,
        crop: float,
        seed: int,
    ) -> None:
        self.encoder, self.targets = encoder, targets
        self._wanted = targets(rows)
        whole = [contents[row] for row in rows.tolist()]
        seeds = ((seed, 0, row) for row in rows.tolist())
        short = [
            words(text, np.random.default_rng(s)) for text, s in zip(whole, seeds, strict=True)
        ]
        #: Texts of all the passages, and what a mean over them counts: whole, and a few words.
        self.texts = [(whole, 1 - crop), (short, crop)]

    def figures(self) -> dict[str, float]:
        """`loss`, the mean distance as trained on, and mean cosines of whole passages and words."""
        return self.measured([self.encoder.encode(texts, "query") for texts, _ in self.texts])

    def measured(self, vectors: Sequence[np.ndarray]) -> dict[str, float]:
        """The figures of these vectors of whole passages and of words, [passages, dimension]."""
        wanted = self._wanted.astype(np.float64)
        distances, cosines = [], []
        for found in vectors:
            squares = (self.targets.compared(found) - wanted) ** 2
            distances.append(float(squares.sum(axis=1).mean()) / self.targets.scale)
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
            products = np.einsum("nd,nd->n", found, wanted)
            cosines.append(float((products / np.maximum(lengths, 1e-12)).mean()))
        loss = sum(d * weight for d, (_, weight) in zip(distances, self.texts, strict=True))
        return {"loss": loss, "cosine": cosines[0], "words_cosine": cosines[1]}


class RegressionTrainer(ResumableTrainer):
    """Trains a projected encoder on the squared distance to stored vectors, a mean over a batch."""

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        encoder: BiEncoder,
        args: TrainingArguments,
        train_dataset: PassageDraws,
        held_out: HeldOut,
    ) -> None:
        self.student, self.held_out = encoder, held_out
        self.chunk_tokens = CHUNK_TOKENS.get(encoder.device.type, 8_192)
        targets = held_out.targets

        def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            """Texts as queries, for queries are what will be encoded."""
            ids = encoder.tokenize([item["text"] for item in items], "query")
            wanted = targets(np.array([item["row"] for item in items]))
            return {"query": encoder.collate(ids), "labels": torch.from_numpy(wanted)}

        super().__init__(
            model=encoder.backbone,
            args=args,
            data_collator=collate,
            train_dataset=train_dataset,
            # The Trainer wants one to evaluate at all; `evaluate` does not read it.
            eval_dataset=train_dataset,
            processing_class=encoder.tokenizer,
            callbacks=[EpochDraws(train_dataset), FiniteGradients()],
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean squared distance of a batch, divided by the space's scale; no outputs."""
        encode = partial(self.student.embed, model)
        vectors = encode_cut(encode, inputs["query"], self.chunk_tokens)
        distances = (vectors - inputs["labels"]).square().sum(dim=1)
        loss = distances.mean() / self.held_out.targets.scale
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"the loss is {loss.item()} at step {self.state.global_step}: look for stored "
                "vectors that are not finite, or lower the learning rate"
            )
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The held-out figures of the current weights, the same in every process."""
        figures = from_first_process(self.held_out.figures)
        return self._evaluated(figures, metric_key_prefix)


def words(text: str, random: np.random.Generator) -> str:
    """SHORTEST to LONGEST words of a text that follow one another; all of a text that has fewer."""
    split = text.split()
    count = int(random.integers(SHORTEST, LONGEST + 1))
    if len(split) <= count:
        return text
    first = int(random.integers(len(split) - count + 1))
    return " ".join(split[first : first + count])


def _train(trainer: RegressionTrainer, checkpoint: str | None) -> list[dict[str, Any]]:
    """Train from a checkpoint, if there is one, to the best weights; the figures of each epoch."""
    if is_main_process():
        resumed = f", resumed from {Path(checkpoint).name}" if checkpoint else ""
        count = len(trainer.train_dataset)
        console.print(f"      learning the vectors of {count:,} passages{resumed}")
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.load_best()
    return [
        {"epoch": entry["epoch"], "step": entry["step"]}
        | {k.removeprefix("eval_"): v for k, v in entry.items() if k in HeldOut.logged}
        for entry in trainer.state.log_history
        if "eval_loss" in entry
    ]


def _start(
    file: Path, encoder: BiEncoder, draws: PassageDraws, held_out: HeldOut
) -> Mapping[str, np.ndarray]:
    """The closed form, which the first process finds and a killed run finds again."""

    def make() -> None:
        if not file.exists():
            found = ridge(encoder, draws, held_out)
            with replacing(file) as out:
                np.savez(out, **found)  # type: ignore[arg-type]

    from_first_process(make)
    with np.load(file) as found:
        return dict(found)


def ridge(
    encoder: BiEncoder, draws: PassageDraws, held_out: HeldOut, most: int = START_PASSAGES
) -> dict[str, np.ndarray | float]:
    """The linear map with intercept from the base's vectors to the stored ones, by least squares.

    `weight` float32 [out, in] and `bias` [out], fitted to at most `most` passages with the
    `penalty` of PENALTIES that brings held-out ones nearest; and `scale`, what squared distances
    in the space are to be divided by.
    """
    base, targets = encoder.unprojected(), held_out.targets
    items = [draws[i] for i in range(min(most, len(draws)))]
    rows = np.array([item["row"] for item in items])
    texts = [item["text"] for item in items]
    inputs = base.encode(texts, "query", show_progress="embedding passages")
    center = inputs.mean(axis=0, dtype=np.float64)
    gram = np.zeros((base.dimension, base.dimension))
    cross = mean = squares = 0.0
    for first in range(0, len(rows), BLOCK):  # stored vectors may be wide, in float64 the more so
        x = inputs[first : first + BLOCK] - center
        y = targets(rows[first : first + BLOCK]).astype(np.float64)
        gram += x.T @ x
        cross = cross + x.T @ y
        mean = mean + y.sum(axis=0) / len(rows)
        squares += float((y**2).sum()) / len(rows)
    if targets.similarity == "dot":
        targets.scale = squares
    variances, axes = np.linalg.eigh(gram)
    variances = variances.clip(min=0)
    turned = axes.T @ cross
    read = [base.encode(texts, "query").astype(np.float64) - center for texts, _ in held_out.texts]
    best: dict[str, np.ndarray | float] = {}
    nearest = np.inf
    for penalty in PENALTIES:
        ridged = variances + penalty * max(variances.mean(), 1e-12)
        weight = axes @ (turned / ridged[:, None])
        loss = held_out.measured([x @ weight + mean for x in read])["loss"]
        if loss < nearest:
            nearest = loss
            bias = mean - center @ weight
            best = {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}
            best["penalty"] = penalty
    if not best:
        raise InputError("stored vectors of passages are not finite: make them again")
    return best | {"scale": targets.scale}


def _arguments(
    encoder: BiEncoder, settings: RegressionSettings, folder: Path, seed: int
) -> TrainingArguments:
    args = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=settings.num_train_epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        warmup_steps=0.05,
        bf16=inference_dtype(encoder.precision, encoder.device) == torch.bfloat16,
        logging_steps=50,
        report_to=[],
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        metric_for_best_model="loss",
        greater_is_better=False,
        load_best_model_at_end=True,
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=False,
        # Buffers are constants here, and processes differ in chunks.
        ddp_broadcast_buffers=False,
        ddp_timeout=7_200,
        use_cpu=not torch.cuda.is_available(),
    )
    # Several GPUs are for several processes: one process uses one.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _begin(folder: Path, plan: Mapping[str, Any]) -> None:
    """Make the folder this plan's; what another left in it is removed, and said so."""
    file = folder / PLAN
    changes = differences(read_json(file), plan) if file.exists() else []
    if changes:
        console.print(f"[yellow]{folder} is of other settings[/]: {', '.join(changes)}; anew")
    if changes or not file.exists():
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, plan)
