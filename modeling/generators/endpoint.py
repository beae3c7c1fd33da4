"""Query generation by a language model behind an API, prompted as local ones are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from tercet.core.schema import InputError, Passage
from tercet.core.text import excerpt, one_line
from tercet.modeling.api_account import Usage, cut_to
from tercet.modeling.generators.answers import grades_in, queries_in, spoken
from tercet.modeling.generators.base import Sampling, tidy
from tercet.modeling.generators.completions import Completion, Completions
from tercet.modeling.generators.prompts import DEFAULT_STYLE

_TOLD = 16  # answers without a query from which a model is refused
_SPARE = 256  # tokens of an answer beside those of its queries
_GRADE_TOKENS = 16  # of a grade in an answer


class EndpointGenerator:
    """A model behind `/chat/completions`, or `/completions` if `api` is "completion".

    A chat model is asked for all queries of a passage in one structured answer; a completion model
    continues the examples, once for each query. A passage is cut to about `passage_tokens`, by an
    estimate. `request` holds further fields of each request. With a `judge`, a model of the same
    endpoint, queries are dropped that it finds unanswerable.
    """

    def __init__(
        self,
        model: Completions,
        *,
        prompt: str = DEFAULT_STYLE.prompt,
        examples: Sequence[tuple[str, str]] = DEFAULT_STYLE.examples,
        style: str = "",
        api: Literal["chat", "completion"] = "chat",
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        passage_tokens: int = 512,
        request: dict[str, Any] | None = None,
        judge: str | None = None,
    ) -> None:
        """`max_new_tokens` bounds a whole answer; None: 64 a query and 256 more."""
        if prompt.count("{passage}") != 1:
            raise InputError(f"the prompt must hold {{passage}} once: {prompt!r}")
        self.model, self.judge = model, judge
        self.identity = f"endpoint {model.endpoint} {model.model}"
        #: Counts for `tercet.core.resources`.
        self.counts: Counter[str] = Counter()
        #: Seconds of all answers when they were bought, as if they were bought again.
        self.seconds = 0.0
        self._name = f"{model.model} ({style})" if style else model.model
        self._prompt, self._examples = prompt, list(examples)
        self._chat, self._sampling = api == "chat", sampling or Sampling(temperature=0.7)
        self._max_new_tokens, self._passage_tokens = max_new_tokens, passage_tokens
        self._request = dict(request or {})

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._name

    @property
    def at_once(self) -> int:
        """Passages that are worked on at the same time."""
        return self.model.concurrency

    def dollars(self, read: float, written: float) -> float | None:
        """The price of tokens; None if it is unknown."""
        prices = self.model.prices
        return prices.cost(Usage(round(read), round(written))) if prices.known else None

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Return up to `per_passage` distinct queries for each passage, in the order given.

        A passage is paid for once, whatever the seed. Raises InputError at the end of the budget,
        for a service that fails for good, and for a model of which no answer holds a query.
        """
        if per_passage < 1:
            raise InputError(f"queries per passage must be at least 1, not {per_passage}")
        texts = [self._cut(passage.contents) for passage in passages]
        prompts = [self._prompt_of(text, per_passage) for text in texts]
        answers = self.model.answers([self._body(each, per_passage) for each in prompts])
        self._count(answers)
        queries = [
            self._read(answer, per_passage, prompt)
            for answer, prompt in zip(answers, prompts, strict=True)
        ]
        self._refuse_useless(queries, answers)
        self.counts["fewer"] += sum(0 < len(each) < per_passage for each in queries)
        self.counts["empty"] += sum(not each for each in queries)
        return self._judged(texts, queries) if self.judge else queries

    def _cut(self, contents: str) -> str:
        whole = one_line(contents)
        cut = cut_to(whole, self._passage_tokens)
        self.counts["cut"] += cut != whole
        return cut

    def _prompt_of(self, passage: str, per_passage: int) -> str:
        shots = "".join(f"{self._filled(text)} {query}\n\n" for text, query in self._examples)
        if not self._chat:
            return shots + self._filled(passage)
        examples = f"Examples of what is asked for:\n\n{shots}" if shots else ""
        return f"{examples}{_asked(per_passage)}\n\n{self._filled(passage)}"

    def _filled(self, passage: str) -> str:
        return self._prompt.replace("{passage}", passage)

    def _body(self, prompt: str, per_passage: int) -> dict[str, Any]:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self.model.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if self._chat:
            longest = self._max_new_tokens or 64 * per_passage + _SPARE
            form = _form("queries", {"type": "string"})
            body |= {"messages": [{"role": "user", "content": prompt}], "response_format": form}
        else:
            longest = self._max_new_tokens or sampling.max_new_tokens
            body |= {"prompt": prompt, "stop": ["\n"], "n": per_passage}
        return body | {"max_tokens": longest} | self._request

    def _read(self, answer: Completion, per_passage: int, prompt: str) -> list[str]:
        if self._chat:
            return queries_in("\n".join(answer.texts), per_passage, prompt)
        known = {query for _, query in self._examples}
        # Some servers repeat the prompt.
        texts = [spoken(text.removeprefix(prompt)) for text in answer.texts]
        tidied = dict.fromkeys(tidy(text) for text in texts)
        return [query for query in tidied if query and query not in known][:per_passage]

    def _count(self, answers: Sequence[Completion]) -> None:
        for answer in answers:
            self.counts["tokens"] += answer.usage.read
            self.counts["written"] += answer.usage.written
            self.seconds += answer.seconds / self.model.concurrency

    def _refuse_useless(
        self, queries: Sequence[Sequence[str]], answers: Sequence[Completion]
    ) -> None:
        if len(queries) < _TOLD or any(queries):
            return
        answer = answers[0]
        cut = "length" in answer.ends
        mend = (
            "raise max_new_tokens, or end its thinking by `request`"
            if cut
            else "is it a chat model? Else set api: completion"
        )
        begins = excerpt(" ".join(answer.texts), 80) or "nothing"
        raise InputError(
            f"{self.name}: none of {len(queries)} answers holds a query "
            f"({'cut off: ' if cut else ''}{begins!r}): {mend}"
        )

    def _judged(self, passages: Sequence[str], queries: Sequence[list[str]]) -> list[list[str]]:
        """The queries that the judge finds answerable; all of those that it did not grade."""
        asked = [place for place, each in enumerate(queries) if each]
        bodies = [self._judge_body(passages[place], queries[place]) for place in asked]
        answers = self.model.answers(bodies, rows=0)
        kept = [list(each) for each in queries]
        self._count(answers)
        for place, answer in zip(asked, answers, strict=True):
            grades = grades_in("\n".join(answer.texts), len(queries[place]))
            if grades is None:
                self.counts["ungraded"] += len(queries[place])
                continue
            graded = zip(queries[place], grades, strict=True)
            kept[place] = [query for query, grade in graded if grade]
        for name, count in (("ungraded", 0), ("unanswerable", _count(queries) - _count(kept))):
            self.counts[name] += count
        return kept

    def _judge_body(self, passage: str, queries: Sequence[str]) -> dict[str, Any]:
        listed = "\n".join(f"{number}. {query}" for number, query in enumerate(queries, 1))
        prompt = f"{_asked_of_judge(len(queries))}\n\nPassage: {passage}\n\n{listed}"
        longest = max(self._max_new_tokens or 0, _GRADE_TOKENS * len(queries) + _SPARE)
        return {
            "model": self.judge,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.0,
            "response_format": _form("grades", {"type": "integer", "enum": [0, 1, 2]}),
            "max_tokens": longest,
        } | self._request


def _asked(n: int) -> str:
    return (
        f"Write {n} different texts, each as it would stand after the last line of the passage "
        "below, in the language of the passage and each about something else in it. Do not copy "
        'the passage. Answer with JSON alone: an object whose key "queries" has a list of '
        f"{n} strings."
    )


def _asked_of_judge(n: int) -> str:
    return (
        f"Below are a passage and {n} numbered queries of people who search. Grade each query: 2 "
        "if the passage has what is asked for, or tells whether a claim is true; 1 if it has a "
        "part of it; 0 if the passage does not tell, or if nobody could understand the query "
        "without having seen the passage. Answer with JSON alone: an object whose key "
        f'"grades" has a list of {n} whole numbers, in the order of the queries.'
    )


def _count(queries: Sequence[Sequence[str]]) -> int:
    return sum(map(len, queries))


def _form(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with one list."""
    schema = {
        "type": "object",
        "properties": {name: {"type": "array", "items": item}},
        "required": [name],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": schema},
    }
