"""Code for a model card that loads the model, with its pooling, projection and prompts."""

from __future__ import annotations

import json
from pathlib import Path

from tercet.config.recipe import Recipe
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
        *_shorter_queries(config),
        "",
        *_transformers(folder, config, frozen),
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


def _shorter_queries(config: EncoderConfig) -> list[str]:
    if config.query_max_length in (None, config.max_length):
        return []
    limit = f"{config.query_max_length} tokens"
    return ["", f"Queries were truncated to {limit}; only Tercet applies this limit."]


def _transformers(folder: Path, config: EncoderConfig, frozen: bool) -> list[str]:
    pooled = (
        ["    vectors = states[:, 0]"]
        if config.pooling == "cls"
        else [
            '    mask = inputs["attention_mask"].unsqueeze(-1)',
            "    vectors = (states * mask).sum(1) / mask.sum(1)",
        ]
    )
    imports = ["import torch"]
    prepared = []
    if config.projected:
        dense = next(folder.glob("[0-9]*_Dense"))
        imports += ["from huggingface_hub import hf_hub_download"]
        imports += ["from safetensors.torch import load_file"]
        file = f'hf_hub_download("{ANY_NAME}", "{dense.name}/model.safetensors")'
        prepared = [f"dense = load_file({file})"]
        biased = json.loads((dense / "config.json").read_text(encoding="utf-8"))["bias"]
        unit = ["    vectors = normalize(vectors, dim=-1)"] if config.projected == "cosine" else []
        bias = ' + dense["linear.bias"]' if biased else ""
        pooled += [*unit, f'    vectors = vectors @ dense["linear.weight"].T{bias}']
    if "cosine" in (config.similarity, config.projected):
        imports += ["from torch.nn.functional import normalize"]
    if config.similarity == "cosine":
        pooled += ["    vectors = normalize(vectors, dim=-1)"]
    text = "(prompt + text).lower()" if config.lower_case else "prompt + text"
    query, passage = (
        f", {json.dumps(prompt, ensure_ascii=False)}" if prompt else ""
        for prompt in (config.query_prompt, config.passage_prompt)
    )
    passages = [f'passages = encode(["a passage"]{passage})', "scores = queries @ passages.T"]
    return [
        "With transformers:",
        "",
        *_python(
            *imports,
            "from transformers import AutoModel, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{ANY_NAME}")',
            f'model = AutoModel.from_pretrained("{ANY_NAME}")',
            *prepared,
            "",
            "",
            "@torch.inference_mode()",
            'def encode(texts, prompt=""):',
            f"    texts = [{text} for text in texts]",
            f"    cut = dict(truncation=True, max_length={config.max_length})",
            '    inputs = tokenizer(texts, padding=True, return_tensors="pt", **cut)',
            "    states = model(**inputs).last_hidden_state",
            *pooled,
            "    return vectors",
            "",
            "",
            f'queries = encode(["a question"]{query})',
            *([] if frozen else passages),
        ),
    ]
