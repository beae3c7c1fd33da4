"""What cannot train, or does nothing, is refused before any work, by its key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from recipes import tiny_recipe
from transformers import AlbertConfig, AlbertModel, AutoTokenizer

from tercet import modeling
from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline


@pytest.fixture
def recipe(
    tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path, tmp_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path, corpus=tiny_beir_path, model=tiny_encoder_path, teacher=tiny_cross_encoder_path
    )


def check(recipe: Path, *options: str) -> None:
    Pipeline(load_recipe(recipe, [f"--{option}" for option in options])).check()
    assert not (recipe.parent / "runs").exists()


def refusal(recipe: Path, *options: str) -> str:
    with pytest.raises(InputError) as caught:
        check(recipe, *options)
    assert not (recipe.parent / "runs").exists()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


#: The key that is named -> the settings that fail, each at another place of the Trainer.
LATE = {
    "training.optim": [
        ["training.optim=adamw_bnb_8bit"],
        ["training.optim=lion_32bit"],
        ["training.optim=galore_adamw"],
        ["training.optim=schedule_free_adamw"],
        ["training.optim=stable_adamw"],
        ["training.optim=apollo_adamw"],
        ["training.optim=adamw_torch_xla"],
    ],
    "training.optim_args": [
        ["training.optim=sgd", "training.optim_args={momentum: fast}"],
        ["training.optim=sgd", "training.optim_args=momentum"],
        ["training.optim=sgd", "training.optim_args={speed: 1}"],
        ["training.optim_args=foo=1"],
    ],
    "training.adam_beta1": [["training.optim=sgd", "training.adam_beta1=.5"]],
    "training.lr_scheduler_type": [
        ["training.lr_scheduler_type=cosine_with_min_lr"],
        ["training.lr_scheduler_type=warmup_stable_decay"],
    ],
    "training.lr_scheduler_kwargs": [
        ["training.lr_scheduler_kwargs={min_lr: 1e-6}"],
        ["training.lr_scheduler_type=constant", "training.lr_scheduler_kwargs={min_lr: 1e-6}"],
    ],
    "training.train_sampling_strategy": [["training.train_sampling_strategy=group_by_length"]],
    "training.use_liger_kernel": [["training.use_liger_kernel=true"]],
    "training.gradient_checkpointing": [
        ["training.gradient_checkpointing=true", "model.train=query_adapter"]
    ],
    "training.learning_rate": [["training.learning_rate=.nan"]],
    "training.fsdp": [["training.fsdp=full_shard"]],
    "training.deepspeed": [["training.deepspeed={zero_optimization: {stage: 2}}"]],
}


@pytest.mark.fault("a library's own errors")
@pytest.mark.parametrize(
    ("key", "options"), [(key, options) for key, all in LATE.items() for options in all]
)
def test_a_setting_that_would_fail_after_all_stages_is_refused_first(
    recipe: Path, key: str, options: list[str]
) -> None:
    assert re.search(rf"(^|: ){re.escape(key)}\b", refusal(recipe, *options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_number_format_that_the_hardware_lacks_is_refused(recipe: Path) -> None:
    assert refusal(recipe, "training.fp16=true").startswith("training.fp16 needs a GPU")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["training.optim=sgd", "training.optim_args={momentum: 9e-1, nesterov: true}"],
        ["training.optim=adagrad"],
        [
            "training.lr_scheduler_type=cosine_with_min_lr",
            "training.lr_scheduler_kwargs={min_lr: 1e-6}",
        ],
        [
            "training.lr_scheduler_type=warmup_stable_decay",
            "training.lr_scheduler_kwargs={num_decay_steps: 5}",
        ],
        ["training.lr_scheduler_type=constant"],
        ["training.gradient_accumulation_steps=4"],
        ["training.dataloader_drop_last=true"],
        ["training.neftune_noise_alpha=5"],
        ["training.gradient_checkpointing=true"],
        ["training.bf16=true"],
        ["training.save_strategy=best", "training.eval_strategy=steps", "training.eval_steps=3"],
        ["model.lora_rank=2", "training.learning_rate=1e-3"],
        ["model.train=query_encoder"],
        ["model.train=query_adapter"],
        ["loss.info_nce=1", "loss.matryoshka=[4]"],
    ],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_settings_that_train_pass(recipe: Path, options: list[str]) -> None:
    check(recipe, *options)


@pytest.mark.fault("a library's own errors")
def test_a_setting_that_this_architecture_lacks_is_refused(recipe: Path, tmp_path: Path) -> None:
    """Its layers share their weights, and transformers checkpoints none of them."""
    folder, given = tmp_path / "albert", Path(load_recipe(recipe).model.name)
    tokenizer = AutoTokenizer.from_pretrained(given)
    config = AlbertConfig(
        vocab_size=len(tokenizer),
        embedding_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    AlbertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = f"model.name={folder}", "model.pooling=mean"
    check(recipe, *model)
    said = refusal(recipe, *model, "training.gradient_checkpointing=true")
    assert said.startswith("training.gradient_checkpointing: a training step")


def test_a_rehearsal_changes_no_later_draw(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    modeling.rehearse(lambda: modeling.BiEncoder.from_pretrained(loaded.model.name), loaded)
    assert torch.equal(torch.rand(3), expected)
