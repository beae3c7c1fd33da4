from __future__ import annotations

import itertools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tercet.core.schema import InputError
from tercet.modeling.cross_encoder import CrossEncoderTeacher

RERANKER = Path(__file__).parents[2] / "models" / "ms-marco-MiniLM-L12-v2-int8"

Pairs = list[tuple[str, str]]


def load(path: Path, **kwargs) -> CrossEncoderTeacher:  # noqa: ANN003
    return CrossEncoderTeacher.from_pretrained(path, precision="fp32", device="cpu", **kwargs)


@pytest.fixture
def pairs(tiny_texts: list[str]) -> Pairs:
    passages, queries = tiny_texts[:60], tiny_texts[60:]
    some = [(queries[i % 20], passages[(7 * i) % 60]) for i in range(40)]
    return [*some, ("oak", "oak"), ("oak", " ".join(passages[:5])), ("", "an empty query")]


class _Logits(torch.nn.Module):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(
            path, attn_implementation="eager"
        ).eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.model(ids, mask, types).logits


@pytest.fixture(scope="module")
def onnx_path(tiny_cross_encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    for file in tiny_cross_encoder_path.glob("tokenizer*"):
        shutil.copy(file, folder)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = AutoTokenizer.from_pretrained(tiny_cross_encoder_path)(
        ["oak", "a bow"], ["beetle", "the rosin"], padding=True, return_tensors="pt"
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            _Logits(tiny_cross_encoder_path),
            tuple(inputs[name] for name in names),
            folder / "model.onnx",
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
            dynamo=False,
        )
    return folder


def test_logits_equal_sentence_transformers(tiny_cross_encoder_path: Path, pairs: Pairs) -> None:
    theirs = CrossEncoder(
        str(tiny_cross_encoder_path),
        max_length=64,
        device="cpu",
        activation_fn=torch.nn.Identity(),
    )
    scores = load(tiny_cross_encoder_path).score(pairs)
    assert scores.dtype == np.float32 and scores.std() > 0.01
    assert np.allclose(scores, theirs.predict(pairs), atol=1e-4)


def test_onnx_equals_torch(tiny_cross_encoder_path: Path, onnx_path: Path, pairs: Pairs) -> None:
    onnx = load(onnx_path, max_length=64)  # "auto" finds no safetensors
    assert np.allclose(onnx.score(pairs), load(tiny_cross_encoder_path).score(pairs), atol=1e-4)
    assert onnx.identity != load(tiny_cross_encoder_path).identity
    assert (onnx.lengths(pairs) == load(tiny_cross_encoder_path).lengths(pairs)).all()


def test_order_and_batch_size_do_not_change_a_logit(
    tiny_cross_encoder_path: Path, pairs: Pairs
) -> None:
    teacher = load(tiny_cross_encoder_path)
    expected = teacher.score(pairs)
    assert (teacher.score(pairs) == expected).all()
    order = np.random.default_rng(0).permutation(len(pairs))
    assert np.allclose(teacher.score([pairs[i] for i in order]), expected[order], atol=1e-5)
    small = load(tiny_cross_encoder_path, batch_tokens=70)
    assert np.allclose(small.score(pairs), expected, atol=1e-5)


def test_lengths_are_token_counts(tiny_cross_encoder_path: Path, pairs: Pairs) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_cross_encoder_path)
    whole = [len(tokenizer(query, passage)["input_ids"]) for query, passage in pairs]
    lengths = load(tiny_cross_encoder_path, max_length=40).lengths(pairs)
    assert lengths.dtype == np.int64
    assert lengths.tolist() == [min(length, 40) for length in whole]
    assert any(length > 40 for length in whole)


def test_a_long_query_keeps_half_and_leaves_the_rest_to_the_passage(
    tiny_cross_encoder_path: Path,
) -> None:
    teacher = load(tiny_cross_encoder_path, max_length=40)
    long = "glacier " * 100
    assert teacher.lengths([(long, "oak " * 100)]).tolist() == [40]
    same = [(long, "oak beetle"), ("glacier " * 20, "oak beetle")]
    first, second = teacher.score(same)
    assert first == pytest.approx(second, abs=1e-6)
    other = teacher.score([(long, "honey wax")])[0]
    assert first != pytest.approx(other, abs=1e-6)  # the passage still has its say


def test_no_pairs_give_no_scores(tiny_cross_encoder_path: Path) -> None:
    teacher = load(tiny_cross_encoder_path)
    assert teacher.score([]).shape == teacher.lengths([]).shape == (0,)


@pytest.mark.fault("a score that is no number")
def test_a_logit_that_is_not_finite_names_its_pair(tiny_cross_encoder_path: Path) -> None:
    teacher = load(tiny_cross_encoder_path)
    word = teacher.tokenizer("glacier", add_special_tokens=False)["input_ids"][0]
    good = teacher._forward

    def forward(inputs: dict[str, np.ndarray]) -> np.ndarray:
        logits = good(inputs)
        logits[(inputs["input_ids"] == word).any(axis=1)] = np.nan
        return logits

    teacher._forward = forward
    pairs = list(itertools.product(["oak"], ["a beetle", "a glacier", "the wax"]))
    with pytest.raises(InputError, match="pair 1 is nan .*'oak'.*'a glacier'"):
        teacher.score(pairs)


def test_models_of_another_kind_are_refused(
    tiny_encoder_path: Path, tiny_cross_encoder_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="modules.json has Pooling, which no reranker is read"):
        load(tiny_encoder_path)
    plain = shutil.copytree(tiny_encoder_path, tmp_path / "plain")
    (plain / "modules.json").unlink()
    with pytest.raises(InputError, match="lacks weights of a BertForSequenceClassification"):
        load(plain)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_cross_encoder_path, num_labels=3, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_cross_encoder_path).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="gives 3 labels"):
        load(tmp_path)
    with pytest.raises(InputError, match="max_length is 65"):
        load(tiny_cross_encoder_path, max_length=65)


@pytest.mark.models
@pytest.mark.skipif(not RERANKER.exists(), reason="make models")
def test_the_real_reranker_prefers_the_answer() -> None:
    berlin = "Berlin has a population of 3,520,031 registered inhabitants."
    pairs = [("how many people live in berlin", text) for text in (berlin, "A museum in New York.")]
    answer, other = load(RERANKER).score(pairs)
    assert answer > 5 > -5 > other


def test_what_is_read_and_what_is_cut_is_counted(tiny_cross_encoder_path: Path) -> None:
    teacher = load(tiny_cross_encoder_path, max_length=20)
    teacher.counts.clear()
    pairs = [("oak", "oak " * 100_000), ("oak " * 3, "oak")]
    assert teacher.lengths(pairs).tolist() == [20, 7]
    assert not teacher.counts, "what is only measured is not read"
    teacher.score(pairs)
    assert teacher.counts == {"tokens": 27, "cut": 1}


@pytest.mark.parametrize("max_length", [16, 64])
def test_lengths_are_those_of_the_pairs_as_they_are_read(
    tiny_cross_encoder_path: Path, tiny_texts: list[str], max_length: int
) -> None:
    teacher = load(tiny_cross_encoder_path, max_length=max_length)
    pairs = [(tiny_texts[i], tiny_texts[-i]) for i in range(len(tiny_texts))]
    read = [len(ids) for ids in teacher.inputs.tokenize(pairs)["input_ids"]]
    assert teacher.lengths(pairs).tolist() == read
