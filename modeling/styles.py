"""Kinds of query that one prompted language model can write, by what it is shown.

A prompt with {passage}, and a few passages each with a query of the kind. Several kinds together
serve a retriever better than any one of them, whatever its users ask (CADET, arXiv 2505.19274).
"""

from __future__ import annotations

from dataclasses import dataclass

_ROSIN = (
    "The hair of a violin bow is rubbed with rosin before playing. Without it the hair slides over"
    " the strings and hardly a sound is heard."
)
_STARTER = (
    "A sourdough starter kept in the refrigerator rests, and is fed about once a week. On the"
    " kitchen counter it has to be fed every day."
)
_PIER = (
    "The old pier was closed in March after divers found that shipworms had eaten through a third"
    " of its piles. Repairs will take two summers and cost four million."
)


@dataclass(frozen=True)
class Style:
    """What a model is shown: a template, and (passage, query) pairs that fill it."""

    prompt: str
    examples: tuple[tuple[str, str], ...]


def _style(asks_for: str, *queries: str) -> Style:
    passages = (_ROSIN, _STARTER, _PIER)
    prompt = f"Passage: {{passage}}\n{asks_for}:"
    return Style(prompt, tuple(zip(passages, queries, strict=True)))


STYLES = {
    "web": _style(
        "Search query",
        "why do violinists put rosin on the bow",
        "how often to feed sourdough starter in the fridge",
        "old pier closed shipworms how long repairs",
    ),
    "question": _style(
        "Question that the passage answers",
        "What happens if the hair of a violin bow has no rosin?",
        "How often must a sourdough starter be fed outside the refrigerator?",
        "Why did the old pier have to close?",
    ),
    "keywords": _style(
        "Keywords",
        "violin bow rosin",
        "sourdough starter feeding refrigerator",
        "pier closure shipworm damage",
    ),
    "claim": _style(
        "Claim that the passage supports or refutes",
        "A violin bow sounds just as loud without rosin.",
        "Cold slows a sourdough starter, so that it needs feeding less often.",
        "Shipworms destroyed a third of the piles under the old pier.",
    ),
    "title": _style(
        "Title",
        "Rosin and the sound of a bow",
        "Feeding a sourdough starter, cold and warm",
        "Shipworms close the old pier",
    ),
}

#: What a model is shown where nothing else is asked for.
DEFAULT_STYLE = Style(STYLES["web"].prompt, STYLES["web"].examples[:2])
