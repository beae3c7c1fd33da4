"""Code for a model card that loads the model, with its pooling, projection and prompts."""

from __future__ import annotations

import json
from pathlib import Path

from tercet.config.recipe import Recipe
from tercet.modeling.encoders.backbones import encoder_class
from tercet.modeling.encoders.layers import IDENTITY, Layer
from tercet.modeling.encoders.pooling import modes_of
from tercet.modeling.encoders.st_format import EncoderConfig, read_config

#: Placeholder in a card for the model's folder or its name on the Hub.
ANY_NAME = "PATH-OR-HUB-NAME"


def snippets(folder: Path, recipe: Recipe) -> list[str]:
    """Lines of Markdown that load the model in `folder` with each library that can."""
    if recipe.model.api:
        return [
            "The model adapts query vectors of an API, so neither transformers nor",
            "sentence-transformers can load it. The API key is read from the environment.",
            "",
            *_python(
                "from huggingface_hub import snapshot_download",
                "from tercet.modeling import load_query_encoder",
                "",
                f'encoder = load_query_encoder(snapshot_download("{ANY_NAME}"))',
                'queries = encoder.encode_queries(["a question"])',
            ),
            *_live(recipe, f'snapshot_download("{ANY_NAME}")'),
        ]
    config, frozen = read_config(folder), recipe.model.frozen
    return [
        *_sentence_transformers(frozen),
        "",
        *([] if config.static else _transformers(folder, config, frozen)),
        "",
        "With Tercet:",
        "",
        *_python(
            "from tercet.modeling import BiEncoder",
            "",
            f'encoder = BiEncoder.from_pretrained("{ANY_NAME}")',
            'queries = encoder.encode_queries(["a question"])',
            *([] if frozen else ['passages = encoder.encode_passages(["a passage"])']),
        ),
        *_live(recipe, f'"{ANY_NAME}"'),
    ]


def _python(*lines: str) -> list[str]:
    return ["```python", *lines, "```"]


def _live(recipe: Recipe, model: str) -> list[str]:
    """Code that searches a live collection with a query encoder."""
    if not recipe.model.frozen:
        return []
    collection = json.dumps(recipe.index.collection or "COLLECTION", ensure_ascii=False)
    return [
        "",
        "Search the Weaviate collection that holds the passage vectors:",
        "",
        *_python(
            "from tercet.serving.search import live_retriever",
            "",
            f"retriever = live_retriever({model}, {collection})",
            'retriever.search(["a question"], 10)',
        ),
    ]


def _sentence_transformers(frozen: bool) -> list[str]:
    passages = [
        'passages = model.encode_document(["a passage"])',
        "scores = model.similarity(queries, passages)",
    ]
    return [
        "With sentence-transformers, which adds the prompts:",
        "",
        *_python(
            "from sentence_transformers import SentenceTransformer",
            "",
            f'model = SentenceTransformer("{ANY_NAME}")',
            'queries = model.encode_query(["a question"])',
            *([] if frozen else passages),
        ),
    ]


#: Code that pools `states` [texts, tokens, hidden] by `mask` [texts, tokens, 1], for padding on
#: either side.
_POOLED = {
    "cls": "states[torch.arange(len(states)), mask[..., 0].argmax(1)]",
    "max": "states.masked_fill(mask == 0, -torch.inf).amax(1)",
    "mean": "(states * mask).sum(1) / mask.sum(1)",
    "mean_sqrt_len_tokens": "(states * mask).sum(1) / mask.sum(1).sqrt()",
    "weightedmean": "(states * weights).sum(1) / weights.sum(1)",
    "lasttoken": "states[torch.arange(len(states)), mask[..., 0].cumsum(1).argmax(1)]",
}


def _pooling(config: EncoderConfig) -> list[str]:
    lines = ['    mask = inputs["attention_mask"].unsqueeze(-1)']
    if not config.include_prompt:
        lines += [
            '    ids = tokenizer(prompt)["input_ids"]',
            "    skipped = len(ids) - (ids[-1] in tokenizer.all_special_ids) if prompt else 0",
        ]
    if "weightedmean" in config.pooling:
        lines += ["    weights = mask.cumsum(1) * mask"]
        if not config.include_prompt:
            lines += ["    weights = weights * (weights > skipped)"]
    if not config.include_prompt:
        lines += ["    mask = mask * (mask.cumsum(1) > skipped)"]
    modes = [_POOLED[mode] for mode in modes_of(config.pooling)]
    vectors = modes[0] if len(modes) == 1 else f"torch.cat([{', '.join(modes)}], dim=-1)"
    return [*lines, f"    vectors = {vectors}"]


def _layers(folder: Path, config: EncoderConfig) -> tuple[list[str], list[str]]:
    """Lines that load the layers' weights, and lines that apply the layers."""
    loaded, applied = [], []
    first = 1 if config.static else 2
    for number, layer in enumerate(config.layers, first):
        if layer.kind == "Normalize":
            applied += ["    vectors = normalize(vectors, dim=-1)"]
            continue
        place = f"{number}_{layer.kind}"
        name = f"layer{number}"
        file = f'hf_hub_download("{ANY_NAME}", "{place}/model.safetensors")'
        loaded += [f"{name} = load_file({file})"]
        settings = json.loads((folder / place / "config.json").read_text(encoding="utf-8"))
        applied += _applied(name, layer, settings)
    return loaded, applied


def _applied(name: str, layer: Layer, settings: dict[str, object]) -> list[str]:
    if layer.kind == "LayerNorm":
        norms = f'{name}["norm.weight"], {name}["norm.bias"]'
        return [
            "    width = vectors.shape[-1:]",
            f"    vectors = torch.nn.functional.layer_norm(vectors, width, {norms})",
        ]
    bias = f' + {name}["linear.bias"]' if settings["bias"] else ""
    product = f'vectors @ {name}["linear.weight"].T{bias}'
    if layer.activation != IDENTITY:
        product = f"torch.nn.{layer.activation}()({product})"
    if layer.residual and settings["in_features"] == settings["out_features"]:
        product = f"vectors + {product}"
    elif layer.residual:
        product = f'vectors @ {name}["residual.weight"].T + {product}'
    return [f"    vectors = {product}"]


def _imports(config: EncoderConfig, loaded: list[str]) -> list[str]:
    imports = ["import torch"]
    if loaded:
        imports += ["from huggingface_hub import hf_hub_download"]
        imports += ["from safetensors.torch import load_file"]
    if config.similarity == "cosine" or Layer("Normalize") in config.layers:
        imports += ["from torch.nn.functional import normalize"]
    return imports


def _transformers(folder: Path, config: EncoderConfig, frozen: bool) -> list[str]:
    kind = encoder_class(folder.name, folder) or "AutoModel"
    loaded, layers = _layers(folder, config)
    ends = [f"    vectors = vectors[:, :{config.truncate_dim}]"] if config.truncate_dim else []
    if config.similarity == "cosine":
        ends += ["    vectors = normalize(vectors, dim=-1)"]
    text = "(prompt + text).lower()" if config.lower_case else "prompt + text"
    query, passage = (
        f", {json.dumps(prompt, ensure_ascii=False)}" if prompt else ""
        for prompt in (config.query_prompt, config.passage_prompt)
    )
    shorter = config.query_max_length or config.max_length
    cut = "" if shorter == config.max_length else f", max_length={shorter}"
    passages = [f'passages = encode(["a passage"]{passage})', "scores = queries @ passages.T"]
    return [
        "With transformers:",
        "",
        *_python(
            *_imports(config, loaded),
            f"from transformers import {', '.join(sorted(['AutoTokenizer', kind]))}",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{ANY_NAME}")',
            f'model = {kind}.from_pretrained("{ANY_NAME}")',
            *loaded,
            "",
            "",
            "@torch.inference_mode()",
            f'def encode(texts, prompt="", max_length={config.max_length}):',
            f"    texts = [{text} for text in texts]",
            "    cut = dict(truncation=True, max_length=max_length)",
            '    inputs = tokenizer(texts, padding=True, return_tensors="pt", **cut)',
            "    states = model(**inputs).last_hidden_state",
            *_pooling(config),
            *layers,
            *ends,
            "    return vectors",
            "",
            "",
            f'queries = encode(["a question"]{query}{cut})',
            *([] if frozen else passages),
        ),
    ]
