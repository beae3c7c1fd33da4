from __future__ import annotations

from functools import wraps
from pathlib import Path

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tercet.core.cache import cache_folder
from tercet.core.schema import InputError, Passage
from tercet.modeling.generators import ct2
from tercet.modeling.generators.base import Sampling, tidy
from tercet.modeling.generators.causal import CausalGenerator, _line_ends
from tercet.modeling.generators.ct2 import CT2Generator, seq2seq_engine
from tercet.modeling.generators.prompts import DEFAULT_STYLE, STYLES
from tercet.modeling.generators.seq2seq import Draw, Seq2SeqGenerator

GEMMA = Path(__file__).parents[3] / "models" / "gemma-3-270m"

Generator = CausalGenerator | Seq2SeqGenerator | CT2Generator


@pytest.fixture
def passages(tiny_texts: list[str]) -> list[Passage]:
    return [Passage(f"p{i}", "", text) for i, text in enumerate(tiny_texts[:7])]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["causal", "seq2seq", "ctranslate2"])
def generator(
    request: pytest.FixtureRequest, tiny_causal_path: Path, tiny_seq2seq_path: Path, cache: Path
) -> Generator:
    settings: dict = {"sampling": Sampling(max_new_tokens=8), "device": "cpu"}
    if request.param == "ctranslate2":
        pytest.importorskip("ctranslate2")
        return CT2Generator.from_pretrained(tiny_seq2seq_path, batch_size=9, **settings)
    settings["precision"] = "fp32"
    if request.param == "causal":
        return CausalGenerator.from_pretrained(tiny_causal_path, batch_size=9, **settings)
    return Seq2SeqGenerator.from_pretrained(tiny_seq2seq_path, batch_size=9, **settings)


def test_equal_arguments_give_equal_queries(generator: Generator, passages: list[Passage]) -> None:
    queries = generator.generate(passages, 3, seed=1)
    torch.rand(5)  # nothing outside the call matters
    assert generator.generate(passages, 3, seed=1) == queries
    assert generator.generate(passages, 3, seed=2) != queries


def test_the_given_order_does_not_matter(generator: Generator, passages: list[Passage]) -> None:
    queries = generator.generate(passages, 2, seed=1)
    assert generator.generate(passages[::-1], 2, seed=1) == queries[::-1]


def test_the_callers_random_state_is_left_alone(
    generator: Generator, passages: list[Passage]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generator.generate(passages[:2], 1, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_queries_are_few_distinct_and_one_line(
    generator: Generator, passages: list[Passage]
) -> None:
    lists = generator.generate(passages, 4, seed=1)
    assert len(lists) == len(passages) and any(lists)
    for queries in lists:
        assert len(queries) == len(set(queries)) <= 4
        assert all(query == query.strip() != "" and "\n" not in query for query in queries)
    assert generator.generate([], 3, seed=1) == []


def test_no_query_per_passage_is_refused(generator: Generator, passages: list[Passage]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        generator.generate(passages, 0, seed=1)


def test_the_models_differ_in_identity(tiny_causal_path: Path, tiny_seq2seq_path: Path) -> None:
    causal = CausalGenerator.from_pretrained(tiny_causal_path)
    assert causal.identity != Seq2SeqGenerator.from_pretrained(tiny_seq2seq_path).identity
    assert causal.name == str(tiny_causal_path)


def test_the_prompt_holds_the_examples_and_a_cut_passage(tiny_causal_path: Path) -> None:
    generator = CausalGenerator.from_pretrained(
        tiny_causal_path, prompt="P: {passage} Q:", examples=[("a {b}", "c")], passage_tokens=5
    )
    ids = generator._prefix + generator._inputs(["oak " * 50])[0]
    head, _, tail = generator.tokenizer.decode(ids).partition("P: a {b} Q: c\n\nP: ")
    assert head == "<s>" and tail.startswith("oak") and tail.endswith(" Q:") and len(tail) < 25
    with pytest.raises(InputError, match="passage"):
        CausalGenerator.from_pretrained(tiny_causal_path, prompt="no place")


def test_reading_the_examples_once_changes_nothing(
    tiny_causal_path: Path, passages: list[Passage]
) -> None:
    sampling = Sampling(top_k=1, max_new_tokens=8)  # always the best token
    generator = CausalGenerator.from_pretrained(
        tiny_causal_path, sampling=sampling, precision="fp32", device="cpu"
    )
    ids = generator._inputs([passage.contents for passage in passages])
    assert len({len(row) for row in ids}) > 1  # so that padding stands between
    together = generator._sample(ids, 2)
    for i, row in enumerate(ids):
        whole = torch.tensor([generator._prefix + row])
        output = generator.model.generate(
            input_ids=whole,
            attention_mask=torch.ones_like(whole),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=generator.stop_ids,
        )
        text = generator.tokenizer.decode(output[0, whole.shape[1] :], skip_special_tokens=True)
        assert together[2 * i : 2 * i + 2] == [text, text]


def test_tokens_are_drawn_as_transformers_would_draw_them() -> None:
    torch.manual_seed(3)
    scores = torch.randn(300) * 3
    rows = scores.expand(20_000, -1)
    for sampling in (Sampling(), Sampling(5, 0.5, 0.7), Sampling(1000, 0.9), Sampling(3, 1.0, 2.0)):
        expected = TemperatureLogitsWarper(sampling.temperature)(None, scores[None])
        expected = TopKLogitsWarper(sampling.top_k)(None, expected)
        expected = TopPLogitsWarper(sampling.top_p)(None, expected).softmax(dim=-1)[0]
        left = Draw(sampling)(torch.empty(0), rows)
        assert (left > -torch.inf).sum(dim=1).unique().tolist() == [1]
        drawn = left.argmax(dim=1).bincount(minlength=300) / len(rows)
        assert (drawn[expected == 0] == 0).all()
        # Four standard errors of a frequency.
        assert ((drawn - expected).abs() <= 4 * (expected / len(rows)).sqrt()).all()


@pytest.mark.fault("a score that is no number")
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_chance_that_is_no_number_is_refused(wrong: float) -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [0.0, wrong, 2.0]])
    with pytest.raises(InputError, match="model 'me/x' gives tokens a chance that is no number"):
        Draw(Sampling(), "me/x").tokens(scores)


def test_rows_that_ended_are_dropped_and_the_others_go_on_as_they_would(
    tiny_causal_path: Path, passages: list[Passage]
) -> None:
    sampling = Sampling(top_k=1, max_new_tokens=12)
    generator = CausalGenerator.from_pretrained(
        tiny_causal_path, sampling=sampling, precision="fp32", device="cpu"
    )
    generator.stop_ids = []
    ids = generator._inputs([passage.contents for passage in passages])
    decode, written = generator.tokenizer.batch_decode, []
    generator.tokenizer.batch_decode = lambda rows, **_: written.extend(rows) or decode(rows)
    generator._sample(ids, 1)
    # Ends in the middle of some rows, never in others.
    ends = {written[0][2], written[1][5]}
    expected = [next((row[:i] for i, t in enumerate(row) if t in ends), row) for row in written]
    assert len({len(row) for row in expected}) > 1
    written.clear()
    generator.stop_ids = sorted(ends)
    generator._sample(ids, 1)
    assert written == expected


@pytest.mark.parametrize("examples", [[], [("a lantern", "what is it")]], ids=["none", "one"])
def test_a_passage_is_read_once_for_its_queries(
    tiny_causal_path: Path, passages: list[Passage], examples: list[tuple[str, str]]
) -> None:
    generator = CausalGenerator.from_pretrained(
        tiny_causal_path, examples=examples, precision="fp32", device="cpu"
    )
    read: list[torch.Size] = []
    network = generator.model.base_model
    forward = network.forward

    def counted(input_ids: torch.Tensor, **rest: object) -> object:
        read.append(input_ids.shape)
        return forward(input_ids=input_ids, **rest)

    network.forward = wraps(forward)(counted)
    ids = generator._inputs([passage.contents for passage in passages])
    generator._sample(ids, 3)
    longest = max(map(len, ids))
    batches = [shape for shape in read if shape[1] > 1 and shape[0] > 1]
    assert batches == [torch.Size([len(ids), longest - 1])]
    first = read.index(batches[0]) + 1
    assert read[first] == torch.Size([3 * len(ids), 1])


def test_an_examples_query_is_not_a_query(tiny_causal_path: Path) -> None:
    generator = CausalGenerator.from_pretrained(tiny_causal_path)
    assert not generator._is_new(DEFAULT_STYLE.examples[0][1])
    assert generator._is_new("something else")


@pytest.mark.parametrize("style", STYLES)
def test_a_style_shows_different_queries_of_its_kind(tiny_causal_path: Path, style: str) -> None:
    first = CausalGenerator.from_pretrained(tiny_causal_path, examples=[])
    shown = STYLES[style]
    other = first.shown(shown.prompt, shown.examples, style=style)
    assert other.model is first.model and other.name == f"{first.name} ({style})"
    assert first.name == str(tiny_causal_path)
    prompt = other.tokenizer.decode(other._prefix)
    assert all(f"{query}\n\n" in prompt for _, query in shown.examples)
    assert not any(other._is_new(query) for _, query in shown.examples)
    assert other._prefix != first._prefix


def test_writing_stops_at_the_end_of_the_line(
    tiny_causal_path: Path, passages: list[Passage]
) -> None:
    generator = CausalGenerator.from_pretrained(tiny_causal_path)
    ends = _line_ends(generator.tokenizer)
    assert generator.tokenizer.eos_token_id in ends
    assert generator.tokenizer("\n", add_special_tokens=False)["input_ids"][0] in ends
    assert all("\n" in generator.tokenizer.decode(i) for i in set(ends) - {2})
    generator.stop_ids = list(range(600))  # every token ends the query
    texts = generator._sample(generator._inputs([passages[0].contents]), 2)
    longest = max(map(len, generator.tokenizer.get_vocab()))
    assert all(len(text) <= longest for text in texts)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (" what is wax \nPassage: no", "what is wax"),
        ('"what is wax"', "what is wax"),
        ("“what is wax”\n", "what is wax"),
        ("\n what", ""),
        ("'", "'"),
        ("wax's", "wax's"),
    ],
)
def test_the_first_line_without_quotation_marks_is_the_query(text: str, query: str) -> None:
    assert tidy(text) == query


def test_a_model_of_another_kind_is_refused(tiny_encoder_path: Path) -> None:
    with pytest.raises(InputError):
        CausalGenerator.from_pretrained(tiny_encoder_path)
    with pytest.raises(InputError):
        Seq2SeqGenerator.from_pretrained(tiny_encoder_path)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.models
@pytest.mark.skipif(not GEMMA.exists(), reason="make models")
def test_a_gguf_model_writes_queries_and_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passages: list[Passage]
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    load = {"gguf_file": "gemma-3-270m-q4_k_m.gguf", "sampling": Sampling(max_new_tokens=6)}
    first = CausalGenerator.from_pretrained(GEMMA, **load)
    (folder,) = cache_folder("gguf").iterdir()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    queries = first.generate(passages[:1], 2, seed=1)
    assert all(queries)
    again = CausalGenerator.from_pretrained(GEMMA, **load)
    assert [path.stat().st_mtime_ns for path in folder.glob("*.safetensors")] == [written]
    assert again.generate(passages[:1], 2, seed=1) == queries
    assert again.identity == first.identity


def test_ctranslate2_writes_again_what_it_wrote_and_keeps_the_converted_model(
    tiny_seq2seq_path: Path, cache: Path, passages: list[Passage]
) -> None:
    pytest.importorskip("ctranslate2")
    load = {"sampling": Sampling(max_new_tokens=8), "device": "cpu"}
    first = CT2Generator.from_pretrained(tiny_seq2seq_path, **load)
    queries = first.generate(passages, 3, seed=1)
    first.generate(passages, 3, seed=2)
    (folder,) = (cache / "ctranslate2").iterdir()
    written = (folder / "model.bin").stat().st_mtime_ns
    again = CT2Generator.from_pretrained(tiny_seq2seq_path, **load)
    assert again.generate(passages, 3, seed=1) == queries
    assert (folder / "model.bin").stat().st_mtime_ns == written
    assert [path.name for path in (cache / "ctranslate2").iterdir()] == [folder.name]


def test_ctranslate2_writes_the_likeliest_tokens_as_torch_does(
    tiny_seq2seq_path: Path, cache: Path, passages: list[Passage], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ctranslate2")
    # In int8 the tokens of an untrained model, nearly equally likely, depend on the processor.
    monkeypatch.setitem(ct2._COMPUTE, "cpu", "float32")
    load = {"sampling": Sampling(top_k=1, max_new_tokens=5), "device": "cpu"}
    ours = CT2Generator.from_pretrained(tiny_seq2seq_path, **load)
    theirs = Seq2SeqGenerator.from_pretrained(tiny_seq2seq_path, precision="fp32", **load)
    found, expected = (each.generate(passages, 1, seed=1) for each in (ours, theirs))
    assert found == expected


def test_ctranslate2_honours_how_tokens_are_drawn(
    tiny_seq2seq_path: Path, cache: Path, passages: list[Passage]
) -> None:
    pytest.importorskip("ctranslate2")

    def texts(**sampling: float) -> list[str]:
        given = Sampling(**sampling)
        generator = CT2Generator.from_pretrained(tiny_seq2seq_path, sampling=given, device="cpu")
        ids = generator._inputs([passages[0].contents])
        return generator._written([ids], 20, seed=1)[0]

    short, long = texts(max_new_tokens=2), texts(max_new_tokens=20)
    assert sum(map(len, short)) < sum(map(len, long)) / 2
    assert len(set(long)) > 1
    assert len(set(texts(top_k=1, max_new_tokens=20))) == 1
    assert len(set(texts(top_p=1e-6, max_new_tokens=20))) == 1


def test_ctranslate2_writes_the_same_on_one_core_and_on_many(
    tiny_seq2seq_path: Path, cache: Path, passages: list[Passage]
) -> None:
    pytest.importorskip("ctranslate2")
    generator = CT2Generator.from_pretrained(tiny_seq2seq_path, batch_size=3, device="cpu")
    threads, found = torch.get_num_threads(), []
    try:
        for cores in (1, 2, 5):
            torch.set_num_threads(cores)
            found.append(generator.generate(passages, 2, seed=1))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def test_ctranslate2_refuses_a_model_of_another_kind(tiny_encoder_path: Path, cache: Path) -> None:
    pytest.importorskip("ctranslate2")
    with pytest.raises(InputError):
        CT2Generator.from_pretrained(tiny_encoder_path)
    assert not any((cache / "ctranslate2").iterdir())


def test_an_engine_that_is_not_installed_is_refused_and_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tercet.modeling.generators.ct2.ctranslate2", None)
    assert seq2seq_engine("auto") == "torch"
    with pytest.raises(InputError, match=r"tercet\[ct2\]"):
        seq2seq_engine("ctranslate2")
