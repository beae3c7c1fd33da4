"""A projection into a space whose model is not at hand, found from passages and their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topics import TOPICS

from tercet.core.mapped import MappedVectors, Vectors
from tercet.core.schema import InputError
from tercet.modeling.encoders import projection
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.projection import regress, words
from tercet.modeling.encoders.ridge import Map

OUT = 24


@pytest.fixture(scope="module")
def contents() -> list[str]:
    """Passages of 40 words of two topics each."""
    random = np.random.default_rng(3)
    pairs = [TOPICS[i % 20] + TOPICS[random.integers(20)] for i in range(300)]
    return [" ".join(random.choice(pair, 40)) for pair in pairs]


def load(path: Path) -> BiEncoder:
    return BiEncoder.from_pretrained(path, precision="fp32", device="cpu")


def found(
    path: Path,
    contents: list[str],
    vectors: Vectors,
    similarity: Any = "cosine",
    passages: int = 100_000,
    seed: int = 7,
) -> tuple[BiEncoder, dict[str, float]]:
    encoder = load(path)
    facts = regress(encoder, contents, vectors, similarity=similarity, passages=passages, seed=seed)
    return encoder, facts


def turned(path: Path, contents: list[str], out: int) -> np.ndarray:
    """The encoder's own vectors, in a space of `out` dimensions that is turned and stretched."""
    own = load(path).encode_passages(contents).astype(np.float64)
    random = np.random.default_rng(5)
    axes = np.linalg.qr(random.normal(size=(out, out)))[0][: own.shape[1]]
    return (own @ axes * 3).astype(np.float32)


def top(encoder: BiEncoder, contents: list[str], vectors: np.ndarray) -> np.ndarray:
    return np.argmax(encoder.encode_queries(contents) @ vectors.T, axis=1)


def test_a_space_that_is_the_models_own_but_turned_is_found(
    tiny_encoder_path: Path, contents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Least squares finds it exactly; ranking words, which may be kept too, strays a little.
    monkeypatch.setattr(projection, "refine", lambda start, *_, **__: start)
    own = load(tiny_encoder_path)
    vectors = turned(tiny_encoder_path, contents, own.dimension + 8)
    encoder, facts = found(tiny_encoder_path, contents, vectors, "dot")
    assert (encoder.similarity, encoder.dimension) == ("dot", own.dimension + 8)
    # Queries order the stored vectors as they order the model's own.
    asked = contents[:50]
    wanted = own.encode_queries(asked) @ own.encode_passages(contents).T
    got = encoder.encode_queries(asked) @ vectors.T
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(wanted, got, strict=True)]
    assert min(agreement) > 0.99
    assert facts["passages"] == 300 and facts["held_out"] == 15


def test_held_out_words_choose_and_the_best_of_all_is_kept(
    tiny_encoder_path: Path, contents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_HELD_OUT", 1 / 3)  # a few would choose by chance
    topics = np.random.default_rng(4).normal(size=(len(TOPICS), OUT))
    known = {word: topics[i] for i, topic in enumerate(TOPICS) for word in topic}
    vectors = np.stack([np.mean([known[w] for w in text.split()], axis=0) for text in contents])
    encoder, facts = found(tiny_encoder_path, contents, vectors.astype(np.float32))
    assert facts["mrr"] >= facts["mrr_closed_form"] >= max(facts["mrr_back"], facts["mrr_onto"])
    assert facts["refined"] == (facts["mrr"] > facts["mrr_closed_form"])
    assert facts["mrr"] > 3 * np.mean(1 / np.arange(1, 301)), "chance"
    length = np.linalg.norm(encoder.encode_queries(contents[:3]), axis=1)
    assert length == pytest.approx(1, abs=1e-5)
    again, same = found(tiny_encoder_path, contents, vectors.astype(np.float32))
    assert same == facts
    assert np.array_equal(again.encode_queries(contents[:3]), encoder.encode_queries(contents[:3]))


def nowhere(encoder: BiEncoder, out: int) -> Map:
    """Maps every query to zero: no passage ranks before another."""
    return Map(np.zeros((encoder.dimension, out)), np.zeros(out))


def test_ranking_words_is_kept_where_it_finds_more(
    tiny_encoder_path: Path, contents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # From a map that finds nothing, so that no machine's arithmetic decides.
    vectors, start = turned(tiny_encoder_path, contents, 40), nowhere(load(tiny_encoder_path), 40)
    monkeypatch.setattr(projection, "between", lambda *_: start)
    facts = found(tiny_encoder_path, contents, vectors)[1]
    assert facts["refined"] == 1 and facts["mrr"] > 10 * facts["mrr_closed_form"]


def test_ranking_words_is_dropped_where_it_finds_less(
    tiny_encoder_path: Path, contents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, end = turned(tiny_encoder_path, contents, 40), nowhere(load(tiny_encoder_path), 40)
    monkeypatch.setattr(projection, "refine", lambda *_, **__: end)
    facts = found(tiny_encoder_path, contents, vectors)[1]
    assert facts["refined"] == 0 and facts["mrr"] == facts["mrr_closed_form"]


def test_mapped_vectors_teach_what_those_in_memory_do(
    tiny_encoder_path: Path, contents: list[str]
) -> None:
    vectors = turned(tiny_encoder_path, contents, 40)
    order = np.random.default_rng(0).permutation(len(vectors))
    mapped = MappedVectors([vectors[order][:100], vectors[order][100:]], order)
    a, facts = found(tiny_encoder_path, contents, vectors, passages=120)
    b, same = found(tiny_encoder_path, contents, mapped, passages=120)
    assert facts == same and facts["passages"] == 120
    assert np.array_equal(a.encode_queries(contents[:3]), b.encode_queries(contents[:3]))


def test_prompts_are_those_of_queries_and_of_passages(
    tiny_encoder_path: Path, contents: list[str]
) -> None:
    asking = {"query_prompt": "honey: ", "passage_prompt": "lighthouse: "}
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", device="cpu", **asking)
    vectors = turned(tiny_encoder_path, contents, encoder.dimension)
    read: list[tuple[str, int]] = []
    encode = BiEncoder.encode

    def watched(self: BiEncoder, texts: Any, kind: str, **given: Any) -> np.ndarray:
        read.append((kind, len(texts)))
        return encode(self, texts, kind, **given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BiEncoder, "encode", watched)
        regress(encoder, contents, vectors, similarity="dot", passages=100, seed=1)
    assert read == [("query", 95), ("passage", 95), ("query", 5), ("query", 4 * 95)]


def test_spans_are_3_to_30_words_that_follow_one_another(contents: list[str]) -> None:
    spans = [words(text, np.random.default_rng(i)) for i, text in enumerate(contents)]
    assert all(span in text for span, text in zip(spans, contents, strict=True))
    assert {min(len(s.split()) for s in spans), max(len(s.split()) for s in spans)} == {3, 30}
    assert words("only two", np.random.default_rng(0)) == "only two"


def test_what_cannot_be_learnt_from_is_refused(
    tiny_encoder_path: Path, contents: list[str]
) -> None:
    vectors = turned(tiny_encoder_path, contents, 40)
    with pytest.raises(InputError, match="19 passages are too few"):
        found(tiny_encoder_path, contents[:19], vectors[:19])
    with pytest.raises(InputError, match="8 passages are too few"):
        found(tiny_encoder_path, contents, vectors, passages=8)
    with pytest.raises(InputError, match="not finite"):
        found(tiny_encoder_path, contents, vectors * np.nan)
    # All passages in one place: nothing tells them apart, and nothing breaks.
    encoder, facts = found(tiny_encoder_path, contents, np.ones_like(vectors))
    assert np.isfinite(list(facts.values())).all() and facts["mrr"] < 0.1
    assert np.isfinite(encoder.encode_queries(contents[:3])).all()
