from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer

from tercet.core.borders import is_out_of_memory
from tercet.core.resources import counting
from tercet.core.schema import InputError
from tercet.modeling.batching import plan_batches, run_halving
from tercet.modeling.encoders.bi_encoder import BiEncoder

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "modernbert"]
MINILM = Path(__file__).parents[3] / "models" / "all-MiniLM-L6-v2"
PROMPTS = {"query_prompt": "how: ", "passage_prompt": "the market: "}


def load(path: Path, **kwargs) -> BiEncoder:  # noqa: ANN003
    return BiEncoder.from_pretrained(path, precision="fp32", device="cpu", **kwargs)


def by_hand(path: Path, texts: list[str], pooling: str, similarity: str, length: int) -> np.ndarray:
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    vectors = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0]
        vector = states[0] if pooling == "cls" else states.mean(0)
        vectors.append(vector / vector.norm() if similarity == "cosine" else vector)
    return torch.stack(vectors).numpy()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_equal_sentence_transformers_and_the_plain_model(
    family: str,
    pooling: str,
    similarity: str,
    encoder_family: Callable[[str], Path],
    tiny_texts: list[str],
    tmp_path: Path,
) -> None:
    path = encoder_family(family)
    texts = [*tiny_texts[::7], "oak", " ".join(tiny_texts[:6])]  # the last one is truncated
    encoder = load(path, pooling=pooling, similarity=similarity, max_length=48, **PROMPTS)
    queries, passages = encoder.encode_queries(texts), encoder.encode_passages(texts)
    assert queries.dtype == np.float32 and queries.shape == (len(texts), 32)
    prompted = [PROMPTS["query_prompt"] + text for text in texts]
    assert np.allclose(queries, by_hand(path, prompted, pooling, similarity, 48), atol=1e-5)

    transformer = Transformer(str(path), max_seq_length=48)
    modules = [
        transformer,
        Pooling(32, pooling),
        *([Normalize()] if similarity == "cosine" else []),
    ]
    prompts = {"query": PROMPTS["query_prompt"], "document": PROMPTS["passage_prompt"]}
    theirs = SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    assert np.allclose(passages, theirs.encode_document(texts), atol=1e-5)

    encoder.save_pretrained(tmp_path / "ours")
    theirs.save(str(tmp_path / "theirs"))
    saved = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert saved.similarity_fn_name == similarity
    assert np.allclose(queries, saved.encode_query(texts), atol=1e-5)
    assert np.allclose(passages, saved.encode_document(texts), atol=1e-5)
    for folder in ("ours", "theirs"):
        again = load(tmp_path / folder)
        assert again.config == encoder.config
        assert np.allclose(queries, again.encode_queries(texts), atol=1e-5)
        assert np.allclose(passages, again.encode_passages(texts), atol=1e-5)


def test_order_and_batch_size_do_not_change_a_vector(
    tiny_encoder_path: Path, tiny_texts: list[str]
) -> None:
    encoder = load(tiny_encoder_path)
    expected = encoder.encode_passages(tiny_texts)
    order = np.random.default_rng(0).permutation(len(tiny_texts))
    shuffled = encoder.encode_passages([tiny_texts[i] for i in order])
    assert np.allclose(shuffled, expected[order], atol=1e-6)
    encoder.batch_tokens = 100
    assert np.allclose(encoder.encode_passages(tiny_texts), expected, atol=1e-6)


def test_training_mode_survives_and_does_not_reach_the_vectors(
    tiny_encoder_path: Path, tiny_texts: list[str]
) -> None:
    encoder = load(tiny_encoder_path)
    expected = encoder.encode_passages(tiny_texts[:5])
    encoder.backbone.train()
    assert (encoder.encode_passages(tiny_texts[:5]) == expected).all()
    assert encoder.backbone.training and encoder.backbone.encoder.layer[0].training


def test_training_and_encoding_make_the_same_vectors(
    tiny_encoder_path: Path, tiny_texts: list[str]
) -> None:
    encoder = load(tiny_encoder_path)
    inputs = encoder.collate(encoder.tokenize(tiny_texts, "passage"))
    vectors = encoder.pool(encoder.backbone(**inputs).last_hidden_state, inputs["attention_mask"])
    assert np.allclose(vectors.detach(), encoder.encode_passages(tiny_texts), atol=1e-6)
    vectors.sum().backward()
    missing = [
        name
        for name, parameter in encoder.backbone.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert missing == []


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_set_everywhere(
    family: str, encoder_family: Callable[[str], Path], tiny_texts: list[str]
) -> None:
    encoder = load(encoder_family(family))
    inputs = encoder.collate(encoder.tokenize(tiny_texts[:4], "passage"))
    encoder.backbone.train()
    encoder.set_dropout(0.0)
    first, second = (encoder.backbone(**inputs).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    encoder.set_dropout(0.5)
    modules = [
        module for module in encoder.backbone.modules() if isinstance(module, torch.nn.Dropout)
    ]
    assert modules and all(module.p == 0.5 for module in modules)
    first, second = (encoder.backbone(**inputs).last_hidden_state for _ in range(2))
    assert not torch.equal(first, second)


def test_precision_changes_little_and_vectors_stay_float32(
    tiny_encoder_path: Path, tiny_texts: list[str]
) -> None:
    expected = load(tiny_encoder_path).encode_passages(tiny_texts)
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="bf16", device="cpu")
    vectors = encoder.encode_passages(tiny_texts)
    assert vectors.dtype == np.float32 and not (vectors == expected).all()
    assert (vectors * expected).sum(axis=1).min() > 0.99
    assert next(encoder.backbone.parameters()).dtype == torch.float32
    with pytest.raises(InputError, match="'int8' is unknown"):
        BiEncoder.from_pretrained(tiny_encoder_path, precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_truncated_vectors_are_the_first_dimensions(
    tiny_encoder_path: Path, tiny_texts: list[str], tmp_path: Path, similarity: str
) -> None:
    whole = BiEncoder.from_pretrained(tiny_encoder_path, similarity=similarity, precision="fp32")
    cut = whole.truncated(5)
    found = cut.encode_passages(tiny_texts)
    expected = whole.encode_passages(tiny_texts)[:, :5]
    if similarity == "cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert cut.dimension == 5 and whole.dimension > 5
    assert np.allclose(found, expected, atol=1e-5)
    with pytest.raises(InputError, match="truncate_dim"):
        whole.truncated(whole.dimension + 1)
    cut.save_pretrained(tmp_path)
    pooling = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == whole.dimension


def test_no_texts_give_no_vectors(tiny_encoder_path: Path) -> None:
    encoder = load(tiny_encoder_path)
    assert encoder.encode_queries([]).shape == (0, 32)


def test_what_is_read_and_what_is_cut_is_counted(tiny_encoder_path: Path) -> None:
    encoder = load(tiny_encoder_path, max_length=16)
    exactly = "oak " * 14  # and two special tokens
    encoder.encode_passages(["oak " * 100_000, "oak", exactly])
    assert encoder.counts == {"tokens": 16 + 3 + 16, "cut": 1}
    with counting(encoder) as counts:
        encoder.encode_queries([exactly])
    assert counts == {"tokens": 16, "cut": 0}


def test_an_empty_text_has_a_vector(tiny_encoder_path: Path) -> None:
    assert np.isfinite(load(tiny_encoder_path).encode_passages([""])).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_names_its_text(tiny_encoder_path: Path, value: float) -> None:
    encoder = load(tiny_encoder_path)
    word = encoder.tokenize(["glacier"], "passage")[0][1]
    with torch.no_grad():
        encoder.backbone.embeddings.word_embeddings.weight[word] = value
    with pytest.raises(InputError, match="passage 1 is not finite .*'a glacier'"):
        encoder.encode_passages(["oak beetle", "a glacier", "the oak"])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_zero_vector_is_refused(tiny_encoder_path: Path, similarity: str) -> None:
    encoder = load(tiny_encoder_path, similarity=similarity)
    with torch.no_grad():
        for parameter in encoder.backbone.encoder.layer[-1].output.LayerNorm.parameters():
            parameter.zero_()
    with pytest.raises(InputError, match="query 0 .* is zero"):
        encoder.encode_queries(["oak"])


def test_query_length_is_kept_when_it_differs(tiny_encoder_path: Path, tmp_path: Path) -> None:
    encoder = load(tiny_encoder_path, max_length=40, query_max_length=8)
    encoder.save_pretrained(tmp_path)
    again = load(tmp_path)
    long = "the " * 60
    assert [len(again.tokenize([long], kind)[0]) for kind in ("query", "passage")] == [8, 40]
    assert "query_max_length" not in (tmp_path / "config.json").read_text()
    equal = load(tmp_path, query_max_length=40)
    equal.save_pretrained(tmp_path)
    assert not (tmp_path / "tercet.json").exists()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_longest_input_is_the_models_own(
    family: str, encoder_family: Callable[[str], Path]
) -> None:
    path = encoder_family(family)
    encoder = load(path)
    assert encoder.config.max_length == 64
    assert np.isfinite(encoder.encode_passages(["the " * 100])).all()
    with pytest.raises(InputError, match="max_length is 65"):
        load(path, max_length=65)


def test_lower_case_is_read_and_kept(encoder_family: Callable[[str], Path], tmp_path: Path) -> None:
    load(encoder_family("roberta")).save_pretrained(tmp_path)
    settings = tmp_path / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 64, "do_lower_case": True}))
    encoder = load(tmp_path)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(["The OAK"])
    assert np.allclose(encoder.encode_passages(["The OAK"]), expected, atol=1e-5)
    assert (encoder.encode_passages(["The OAK"]) == encoder.encode_passages(["the oak"])).all()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [{"type": "evil.models.Transformer", "path": ""}], "never run"),
        (
            "modules.json",
            [
                {"type": f"sentence_transformers.models.{kind}", "path": kind}
                for kind in ("Pooling", "Dense")
            ],
            "not supported",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "attention"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "weights": [1, 2]}, "'weights'"),
        ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "auto_map AutoModel"),
        ("sentence_bert_config.json", {"model_args": {"a": 1}}, "model_args"),
        ("config_sentence_transformers.json", {"weight": 2}, "'weight'"),
        ("config_sentence_transformers.json", ["cosine"], "dict"),
    ],
)
def test_files_that_cannot_be_honoured_are_refused(
    file: str, content: object, message: str, tiny_encoder_path: Path, tmp_path: Path
) -> None:
    load(tiny_encoder_path).save_pretrained(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_a_plain_folder_has_to_be_told_its_pooling(tiny_encoder_path: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder_path, tmp_path / "some-encoder")
    (tmp_path / "some-encoder" / "modules.json").unlink()
    with pytest.raises(InputError, match=r"set model\.pooling"):
        load(tmp_path / "some-encoder")
    encoder = load(tmp_path / "some-encoder", pooling="max")
    assert encoder.config.pooling == "max" and "pooling" not in encoder.config.assumed


def test_what_no_file_says_is_told_with_its_value(tiny_encoder_path: Path, tmp_path: Path) -> None:
    bare = load(tiny_encoder_path)
    assert bare.config.assumptions() == "similarity cosine, no prompts"
    assert load(tiny_encoder_path, query_prompt="q: ", similarity="dot").config.assumptions() == ""
    load(tiny_encoder_path, **PROMPTS).save_pretrained(tmp_path / "said")
    assert load(tmp_path / "said").config.assumptions() == ""
    known = shutil.copytree(tiny_encoder_path, tmp_path / "all-MiniLM-L6-v2")
    (known / "modules.json").unlink()
    told = load(known).config.effective()
    assert told["assumed"] == "pooling mean, similarity cosine, no prompts, max_length 64"


@pytest.mark.parametrize(
    ("name", "pooling", "similarity"),
    [
        ("msmarco-distilbert-base-tas-b", "cls", "dot"),
        ("GPL-fiqa-msmarco-distilbert-margin-mse-tasb", "cls", "dot"),
        ("contriever-msmarco", "mean", "dot"),
        ("msmarco-distilbert-dot-v5", "mean", "dot"),
        ("msmarco-MiniLM-L-6-v3", "mean", "cosine"),
        ("all-MiniLM-L6-v2", "mean", "cosine"),
    ],
)
def test_a_known_model_is_read_as_it_was_trained(
    tiny_encoder_path: Path, tmp_path: Path, name: str, pooling: str, similarity: str
) -> None:
    bare = shutil.copytree(tiny_encoder_path, tmp_path / name)
    for file in ("modules.json", "config_sentence_transformers.json"):
        (bare / file).unlink(missing_ok=True)
    config = load(bare).config
    assert (config.pooling, config.similarity) == (pooling, similarity)
    load(tiny_encoder_path, similarity="cosine").save_pretrained(tmp_path / "said" / name)
    assert load(tmp_path / "said" / name).config.similarity == "cosine"


def test_a_euclidean_model_is_refused(tiny_encoder_path: Path, tmp_path: Path) -> None:
    load(tiny_encoder_path, similarity="dot").save_pretrained(tmp_path)
    file = tmp_path / "config_sentence_transformers.json"
    file.write_text(json.dumps({"similarity_fn_name": "euclidean"}))
    with pytest.raises(InputError, match="euclidean"):
        load(tmp_path)


def test_weights_in_the_older_format_load_as_the_same(
    tiny_encoder_path: Path, tmp_path: Path, tiny_texts: list[str]
) -> None:
    expected = load(tiny_encoder_path).encode_passages(tiny_texts[:3])
    shutil.copytree(tiny_encoder_path, tmp_path, dirs_exist_ok=True)
    safe = tmp_path / "model.safetensors"
    torch.save(load_file(safe), tmp_path / "pytorch_model.bin")
    safe.unlink()
    assert np.array_equal(load(tmp_path).encode_passages(tiny_texts[:3]), expected)


class Payload:
    """A pickle that would write a file where it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.canary, "run")


def test_a_pickle_that_would_run_code_is_refused(tiny_encoder_path: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder_path, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    payload = {"embeddings.word_embeddings.weight": Payload(tmp_path / "canary")}
    torch.save(payload, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="does not load"):
        load(tmp_path / "model")
    assert not (tmp_path / "canary").exists()


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match="'models/nothing'.*tercet demo"):
        load(Path("models/nothing"))
    with pytest.raises(InputError, match="no such folder$"):
        load(Path("/nowhere/at/all"))


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="'someone/something-unheard-of'") as caught:
        load(Path("someone/something-unheard-of"))
    assert "\n" not in str(caught.value)


def test_identity_follows_the_weights(tiny_encoder_path: Path, tmp_path: Path) -> None:
    encoder = load(tiny_encoder_path)
    encoder.save_pretrained(tmp_path / "a")
    encoder.save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("about")
    with torch.no_grad():
        next(encoder.backbone.parameters())[0, 0] += 1
    encoder.save_pretrained(tmp_path / "c")
    a, b, c = (load(tmp_path / name).identity for name in "abc")
    assert a == b != c


def test_batches_hold_every_text_once_within_the_limit() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, size=200)
    batches = plan_batches(lengths, 64)
    assert sorted(np.concatenate(batches)) == list(range(200))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 64
    assert plan_batches([], 64) == []


@pytest.mark.fault("memory that ends")
def test_a_batch_too_large_for_memory_is_halved() -> None:
    seen: list[int] = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return batch * 10

    assert (run_halving(run, np.arange(7)) == np.arange(7) * 10).all()
    assert max(size for size in seen if size <= 2) == 2
    with pytest.raises(torch.OutOfMemoryError):
        run_halving(lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()), np.arange(3))


@pytest.mark.fault("memory that ends")
@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_so_it_is_where_the_memory_of_the_machine_ends(allocate: Any) -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        if len(batch) > 2:
            allocate(10**15)
        return batch * 10

    assert (run_halving(run, np.arange(7)) == np.arange(7) * 10).all()
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        run_halving(lambda _: allocate(10**15), np.arange(3))
    assert is_out_of_memory(caught.value)
    with pytest.raises(ValueError, match="of another kind"):
        run_halving(lambda _: (_ for _ in ()).throw(ValueError("of another kind")), np.arange(3))


def test_the_config_is_a_value(tiny_encoder_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(tiny_encoder_path).config.pooling = "cls"  # type: ignore[misc]


@pytest.mark.models
@pytest.mark.skipif(not MINILM.exists(), reason="make models")
def test_the_real_minilm_equals_sentence_transformers(tiny_texts: list[str]) -> None:
    encoder = load(MINILM)
    theirs = SentenceTransformer(str(MINILM), device="cpu")
    assert np.allclose(encoder.encode_passages(tiny_texts), theirs.encode(tiny_texts), atol=1e-5)
