"""Prompts for the styles of query that a language model can write.

A style is a template with {passage} and a few passages with a query each. Training on several
styles serves a retriever better than any one of them (CADET, arXiv 2505.19274).
"""

from __future__ import annotations

from dataclasses import dataclass

_PASSAGES = (
    "The hair of a violin bow is rubbed with rosin before playing. Without it the hair slides over"
    " the strings and hardly a sound is heard.",
    "A sourdough starter kept in the refrigerator rests, and is fed about once a week. On the"
    " kitchen counter it has to be fed every day.",
    "The old pier was closed in March after divers found that shipworms had eaten through a third"
    " of its piles. Repairs will take two summers and cost four million.",
    "Glass frogs have translucent skin on the belly, through which the heart and the liver can be"
    " seen. They sleep on the undersides of leaves.",
    "Under the lease, a tenant who leaves before the end of the term owes rent until the flat is"
    " let again, but for no more than three months.",
    "Sorting by insertion compares on the order of n squared pairs in the worst case, but only n"
    " when the list is already in order.",
)


@dataclass(frozen=True)
class _Style:
    """A template, and the (passage, query) pairs that are its examples."""

    prompt: str
    examples: tuple[tuple[str, str], ...]


def _style(asks_for: str, *queries: str) -> _Style:
    prompt = f"Passage: {{passage}}\n{asks_for}:"
    return _Style(prompt, tuple(zip(_PASSAGES, queries, strict=True)))


#: Six examples each: with two, a small model copies them, and half of its queries are off topic.
STYLES = {
    "web": _style(
        "Search query",
        "why do violinists put rosin on the bow",
        "how often to feed sourdough starter in the fridge",
        "old pier closed shipworms how long repairs",
        "glass frog see through belly organs",
        "what rent does a tenant owe after leaving early",
        "insertion sort best case number of comparisons",
    ),
    "question": _style(
        "Question that the passage answers",
        "What happens if the hair of a violin bow has no rosin?",
        "How often must a sourdough starter be fed outside the refrigerator?",
        "Why did the old pier have to close?",
        "Which organs can be seen through the skin of a glass frog?",
        "For how long does a tenant who leaves early go on paying rent?",
        "When does insertion sort need the fewest comparisons?",
    ),
    "keywords": _style(
        "Keywords",
        "violin bow rosin",
        "sourdough starter feeding refrigerator",
        "pier closure shipworm damage",
        "glass frog translucent skin",
        "lease early termination rent",
        "insertion sort complexity",
    ),
    "claim": _style(
        "Claim that the passage supports or refutes",
        "A violin bow sounds just as loud without rosin.",
        "Cold slows a sourdough starter, so that it needs feeding less often.",
        "Shipworms destroyed a third of the piles under the old pier.",
        "The heart of a glass frog is visible from below.",
        "Tenants who leave early owe the rent of the whole remaining term.",
        "Insertion sort is fast on lists that are nearly in order.",
    ),
    "title": _style(
        "Title",
        "Rosin and the sound of a bow",
        "Feeding a sourdough starter, cold and warm",
        "Shipworms close the old pier",
        "The transparent belly of glass frogs",
        "Rent due when a tenant leaves before the term ends",
        "How many comparisons insertion sort makes",
    ),
}

#: The style if a recipe names none.
DEFAULT_STYLE = STYLES["web"]
