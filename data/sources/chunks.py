"""Texts split into passages: at headings, paragraphs and sentences if possible.

The parts of a text ID are the passages ID#1, ID#2, so judgements may name a text or a part.
semantic-text-splitter splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from tercet.core.extras import missing
from tercet.core.files import digest
from tercet.core.schema import InputError, Passage, PassageSource, document_of

try:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

_BLOCK = 16_384
#: Where a text is cut, the best first.
_SEAMS = ("\n#", "\n\n", "\n", ". ", "。", " ")


def splitter(characters: int, *, markdown: bool = False) -> Callable[[str], list[str]]:
    """A function that splits a text into parts of at most so many characters."""
    if not _INSTALLED:
        raise missing("a splitter of documents", "documents")
    chunks = (MarkdownSplitter if markdown else TextSplitter)(characters).chunks
    size = max(_BLOCK, 4 * characters)
    return lambda text: [part for block in _blocks(text, size) for part in chunks(block)]


def _blocks(text: str, size: int) -> Iterator[str]:
    """Pieces of at most `size` characters, which end at a seam if their second half has one.

    The splitter's time grows with the square of its text.
    """
    start = 0
    while len(text) - start > size:
        half, end = start + size // 2, start + size
        seams = (text.rfind(seam, half, end) for seam in _SEAMS)
        end = next((place + 1 for place in seams if place >= 0), end)
        yield text[start:end]
        start = end
    yield text[start:]


class Chunked:
    """The passages of a source, each split into parts."""

    def __init__(self, source: PassageSource, characters: int) -> None:
        self.source, self.characters = source, characters
        self._split = splitter(characters)

    def identity(self) -> str:
        """Digest of the source and the length."""
        return digest([self.source.identity(), self.characters])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The parts, each with the title of the whole; a text without any is an empty part."""
        for place, whole in self.source.passages():
            for number, part in enumerate(self._split(whole.text) or [whole.text], 1):
                yield f"{place}, part {number}", Passage(f"{whole.id}#{number}", whole.title, part)


def parts_of(source: PassageSource, documents: Collection[str]) -> Counter[str]:
    """The number of passages that each of some documents has in a source; reads it once."""
    return Counter(
        document
        for _, passage in (source.passages() if documents else ())
        if "#" in passage.id and (document := document_of(passage.id)) in documents
    )


def named_documents(source: PassageSource, names: Collection[str]) -> dict[str, str]:
    """The document of each name, which is its own or one of its parts'; itself if unknown."""
    there = parts_of(source, {*names, *map(document_of, names)})
    return {
        name: next((known for known in (name, document_of(name)) if known in there), name)
        for name in names
    }


def refuse_vectors(vector: str | None) -> None:
    """Refuse vectors of whole texts beside their parts."""
    if vector:
        raise InputError(
            "corpus.passages.chunk and corpus.passages.vector are both given: the vectors are of "
            "whole texts: choose one"
        )
