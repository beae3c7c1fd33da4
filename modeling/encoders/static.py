"""A table of token vectors as a model: StaticEmbedding, and model2vec's files of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from tercet.core.borders import border
from tercet.core.schema import InputError
from tercet.modeling.checks import check_finite


class StaticConfig(PreTrainedConfig):
    """The table's size."""

    model_type = "static-embedding"

    def __init__(self, vocab_size: int = 1, hidden_size: int = 1, **given: Any) -> None:
        super().__init__(**given)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size


class StaticModel(PreTrainedModel):
    """Looks tokens up; the mean of a text's is its vector."""

    config_class = StaticConfig

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """The vectors of tokens [texts, tokens], as last_hidden_state [texts, tokens, hidden]."""
        return BaseModelOutput(last_hidden_state=self.embedding(input_ids))


def load_static(name: str, folder: Path) -> StaticModel:
    """Load the table in `folder`, float32. Raises InputError naming the model `name`."""
    with border(f"model {name!r} has no table of token vectors"):
        tensors = load_file(folder / "model.safetensors")
        table = tensors["embedding.weight"] if "embedding.weight" in tensors else _folded(tensors)
        model = StaticModel(StaticConfig(*table.shape))
        with torch.no_grad():
            model.embedding.weight.copy_(table)
    check_finite(name, model)
    return model.eval()


def _folded(tensors: dict[str, Tensor]) -> Tensor:
    """One row for each token: model2vec may share rows among tokens, and weighs them."""
    table = tensors["embeddings"].float()
    if "mapping" in tensors:
        table = table[tensors["mapping"].long()]
    return table * tensors["weights"].float().unsqueeze(1) if "weights" in tensors else table


def load_static_tokenizer(name: str, folder: Path) -> Any:
    """Load the tokenizer of a table. Raises InputError naming the model `name`."""
    file = folder / "tokenizer.json"
    if not file.exists():
        raise InputError(f"model {name!r} has no tokenizer: {file} is missing")
    with border(f"model {name!r}: {file} is no tokenizer"):
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)  # its vector counts nowhere
    return tokenizer
