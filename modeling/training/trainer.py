"""`MarginMSETrainer`: the Hugging Face Trainer with a recipe's loss and retrieval evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from tercet.config.recipe import LossSection, Recipe
from tercet.core.borders import border
from tercet.core.console import CURVES
from tercet.core.schema import Diverged, InputError
from tercet.core.text import listed
from tercet.data.triplets import Triplets
from tercet.modeling.batching import encode_cut
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.precision import default_device, known_dtype
from tercet.modeling.training.callbacks import Curves, EpochDraws, FiniteGradients
from tercet.modeling.training.checkpoints import ResumableTrainer, newest_whole
from tercet.modeling.training.collator import IGNORED, TripletCollator, at_fault
from tercet.modeling.training.gradient_cache import GradientCache
from tercet.modeling.training.objective import Objective, check_widths
from tercet.modeling.training.retrieval_evaluation import RetrievalEvaluation

#: Tokens of a chunk, padding included. The CPU's is the fastest batch of `BiEncoder.encode`, too.
_CHUNK_TOKENS = {"cpu": 2_048, "cuda": 16_384}


class MarginMSETrainer(ResumableTrainer):
    """Trains a student on target margins, and evaluates it by retrieval.

    The loss is a sum divided by the number of margins over all processes and accumulation steps,
    so it does not depend on how a batch is divided among them. The Trainer's own mean over each
    device's batch would weigh lists by their neighbours, as lists have unequal numbers of
    negatives. InfoNCE contrasts all passages of a batch, so it takes no accumulation steps;
    gradient caching keeps its memory independent of the batch size instead.
    """

    def __init__(
        self,
        student: Student,
        args: TrainingArguments,
        train_dataset: Triplets,
        collator: TripletCollator,
        evaluation: RetrievalEvaluation | None,
        *,
        loss: LossSection,
        penalty: float = 0.0,
        patience: int | None = None,
    ) -> None:
        """`penalty` is as in `Objective`; `patience` is in evaluations without a gain.

        `evaluation` is None only where the arguments evaluate nothing.
        """
        check_widths(loss, student)
        self.student = student
        self.evaluation = evaluation
        self.objective = Objective(loss, normalize=student.normalize, penalty=penalty)
        self.chunk_tokens = _CHUNK_TOKENS.get(student.device.type, 8_192)
        #: The queries of the step, as rows of the data set.
        self._rows: list[int] = []
        self._step = -1
        super().__init__(
            model=student.trained,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            # The Trainer evaluates only if it has one; `evaluate` searches and does not read it.
            eval_dataset=train_dataset,
            processing_class=student.tokenizer,
            callbacks=[
                EpochDraws(train_dataset),
                FiniteGradients(self.diverged),
                Curves(Path(args.output_dir) / CURVES),
                *([EarlyStoppingCallback(patience)] if patience else []),
            ],
        )
        # Makes the Trainer count the labels of the whole accumulated batch and leave scaling to
        # `compute_loss`, whatever arguments the backbone's forward has.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss, divided by `num_items_in_batch` margins, and no outputs.

        With InfoNCE the backward passes of all chunks but the last are done when this returns.
        """

        def encode(side: Mapping[str, Tensor]) -> Tensor:
            return self.student.embed(model, side)

        query, passage = inputs["query"], inputs["passage"]
        # Known vectors need no encoding, and an adapter's queries need no chunks.
        known = [passage["vectors"]] if "vectors" in passage else []
        read = [query] if known else [query, passage]
        if not self.objective.section.contrastive or "vectors" in query:
            vectors = [encode_cut(encode, side, self.chunk_tokens) for side in read]
            loss = self._loss([*vectors, *known], inputs, num_items_in_batch)
        else:
            cache = GradientCache(encode, read, self.chunk_tokens)
            value = self._loss([*cache.vectors, *known], inputs, num_items_in_batch)
            cache.differentiate(value)
            *chunks, last = cache.chunks
            for chunk in chunks:
                # Processes may have unequal numbers of chunks: gradients are averaged at the last.
                with self.accelerator.no_sync(model):
                    self.accelerator.backward(cache.replay(chunk))
            rest = cache.replay(last)
            # The loss's value with the last chunk's gradient, for the Trainer's backward pass.
            loss = value.detach() + (rest - rest.detach())
        return (loss, {}) if return_outputs else loss

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Take the Trainer's step and count the tokens of all processes, without padding."""
        read = [inputs[side] for side in ("query", "passage") if "vectors" not in inputs[side]]
        tokens = torch.tensor(sum(int(side["attention_mask"].sum()) for side in read))
        tokens = tokens.to(self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.reduce(tokens))
        if self._step != self.state.global_step:  # not another part of the same batch
            self._rows, self._step = [], self.state.global_step
        self._rows += inputs["row"].tolist()
        return super().training_step(model, inputs, num_items_in_batch)

    def _loss(
        self, vectors: Sequence[Tensor], inputs: Mapping[str, Any], count: Tensor | int | None
    ) -> Tensor:
        query, passage = vectors
        loss = self.objective(query, passage, inputs)
        if count is None:
            loss = loss / inputs["labels"].ne(IGNORED).sum()
        else:
            # Gradients are averaged over processes, while the count is the sum of theirs.
            loss = loss / count * self.accelerator.num_processes
        if not torch.isfinite(loss):
            raise self.diverged(f"the loss is {loss.item()}", at_fault(query, passage, inputs))
        return loss

    def diverged(self, what: str, rows: Sequence[int] = ()) -> Diverged:
        """The error of training that cannot go on; `rows` are the queries at fault, if known."""
        known: Sequence[str] = getattr(self.train_dataset, "query_ids", ())
        ids = [known[row] if known else f"{row}" for row in sorted(set(rows or self._rows))]
        kept = newest_whole(Path(self.args.output_dir))
        return Diverged(
            f"training diverged: {what} at step {self.state.global_step}"
            + (f", with {listed(ids)}" if ids else "")
            + f"; last checkpoint: {kept or 'none'}. Lower training.learning_rate"
        )

    def check_weights(self) -> None:
        """Raise Diverged unless all weights are finite."""
        if not all(torch.isfinite(p).all() for p in self.student.trained.parameters()):
            raise self.diverged("a weight is not finite")

    @property
    def reached(self) -> str:
        """How far training is, in epochs or, where it is evaluated by them, steps."""
        if self.state.global_step == 0:
            return "before training"
        if self.args.eval_strategy == IntervalStrategy.EPOCH:
            return f"epoch {round(self.state.epoch or 0)} of {self.args.num_train_epochs:g}"
        return f"step {self.state.global_step:,} of {self.state.max_steps:,}"

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the validation queries' mean metrics with the current weights, in every process.

        Raises Diverged for weights that are not finite, and RuntimeError in every process if one
        fails.
        """
        assert self.evaluation is not None, "the arguments evaluate nothing"
        self.check_weights()
        first = self.state.global_step == 0
        metrics = self.evaluation.measure(self.reached, zero_shot=first)["validation"]
        means = {name: float(np.mean(list(values.values()))) for name, values in metrics.items()}
        return self._evaluated(means, metric_key_prefix)


def training_arguments(recipe: Recipe, student: Student | None = None) -> TrainingArguments:
    """TrainingArguments of a recipe's `training` section, and those that Tercet sets itself.

    Where the section leaves the number format open, it is the faster one for `student`, or float32
    without one on hardware where that has to be measured. Raises InputError if the settings
    contradict each other.
    """
    settings = dict(recipe.training)
    _check_settings(settings)
    if settings.get("bf16") is None:
        dtype = known_dtype("auto", default_device())
        if dtype is None and isinstance(student, BiEncoder):
            dtype = student.dtype_of("train")
        settings["bf16"] = dtype == torch.bfloat16 and not settings.get("fp16")
    if "trackio" in recipe.tracking.report_to:
        # Otherwise each push to the Hub would publish the metrics as a public Space.
        settings.setdefault("trackio_static_space_id", False)
    settings.setdefault("hub_model_id", recipe.name)
    settings |= {
        "output_dir": str(recipe.folder / "training"),
        "seed": recipe.seed,
        "run_name": recipe.name,
        # `tercet.sharing.wandb` logs to W&B, and more than the curves.
        "report_to": [name for name in recipe.tracking.report_to if name != "wandb"],
        "project": recipe.tracking.project,
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "average_tokens_across_devices": True,
        "eval_on_start": True,
        "ddp_find_unused_parameters": False,
        # Buffers are constants, and processes may have unequal numbers of chunks to broadcast at.
        "ddp_broadcast_buffers": False,
        "use_cpu": default_device().type == "cpu",
    }
    with border("training"):
        args = TrainingArguments(**settings)
    by_steps = args.save_strategy == SaveStrategy.STEPS
    if by_steps and args.eval_steps != args.save_steps:
        raise InputError(
            f"training: eval_steps ({args.eval_steps:g}) and save_steps ({args.save_steps:g}) must "
            "be equal, so that the best model is one that was saved"
        )
    # One process uses one GPU; several GPUs need several processes.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raise InputError for settings that keep no best model, or that this hardware lacks."""
    measured, saved = str(settings["eval_strategy"]), str(settings["save_strategy"])
    if measured == "no":
        raise InputError("training: eval_strategy must be epoch or steps: the best model is kept")
    if saved not in (measured, "best"):
        raise InputError(
            f"training: save_strategy {saved} must be eval_strategy's {measured}, or best, so that "
            "the best model is one that was saved"
        )
    if settings.get("fp16") and default_device().type == "cpu":
        raise InputError(
            "training.fp16 needs a GPU, and there is none here: leave it out, and bf16 or float32 "
            "is chosen by measuring"
        )
