"""What models read and write, in tokens: counted where it happens, for manifests and forecasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

#: What manifests call the counts of encoders and teachers, and of generators.
OF_READERS = {"tokens": "tokens", "cut": "truncated"}
OF_GENERATORS = {"tokens": "tokens_read", "written": "tokens_written", "cut": "truncated_passages"}


@contextmanager
def counting(model: object) -> Iterator[Counter[str]]:
    """What `model` adds to its `counts` within; it stays empty if it keeps none.

    `tokens` are read, special ones included and padding not, after cutting; `cut` are the texts
    that were cut; `written` are a generator's new tokens.
    """
    before: Counter[str] = Counter(getattr(model, "counts", {}))
    taken: Counter[str] = Counter()
    yield taken
    after: Counter[str] = Counter(getattr(model, "counts", {}))
    taken.update({name: after[name] - before[name] for name in after})
