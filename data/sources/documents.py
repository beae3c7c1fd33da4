"""A folder of documents: text, Markdown, HTML and PDF files, split into passages.

A passage's id is the path of its file in the folder and its number in the file, so adding a file
changes no other id; judgements may name a file, and so all its passages. Passages end at headings,
paragraphs and sentences if possible. Beautiful Soup reads HTML, pypdf PDF.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.text import Text

from tercet.core.console import console
from tercet.core.extras import missing
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage
from tercet.core.text import error_text, one_line
from tercet.data.sources.chunks import splitter

try:
    from bs4 import BeautifulSoup
    from pypdf import PdfReader
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True
# It says a line, without the file's name, for each token of a damaged part: a hundred thousand.
logging.getLogger("pypdf").setLevel(logging.ERROR)

_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf")
_READING = 2  # increased when the same files are read differently
_HEADING = re.compile(r"^#[ \t]+(\S.*)$", re.MULTILINE)
_BLOCKS = (
    *("p", "div", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "pre", "br", "blockquote"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header", "footer", "main"),
    *("figure", "figcaption", "address", "form", "details", "summary"),
)
_NO_TEXT = ("script", "style", "noscript", "template", "nav")


class Documents:
    """Reads every document in a folder and its subfolders, except hidden ones."""

    def __init__(self, path: str, *, characters: int) -> None:
        if not _INSTALLED:
            raise missing("a reader of documents", "documents")
        self.folder, self.characters = Path(path), characters
        if not self.folder.is_dir():
            raise InputError(f"{path}: no such folder (corpus.path)")
        if not self.files:
            raise InputError(f"{path}: holds no document ({', '.join(_SUFFIXES)})")
        others = Counter(
            file.suffix or "no suffix"
            for file in self._shown
            if file.suffix.lower() not in _SUFFIXES
        )
        if others:
            kinds = ", ".join(f"{count:,} of {kind}" for kind, count in others.most_common())
            console.print(Text("skipped", "yellow"), f"in {path}: {kinds}")

    @cached_property
    def files(self) -> list[Path]:
        """The documents, sorted by path."""
        return [file for file in self._shown if file.suffix.lower() in _SUFFIXES]

    @cached_property
    def _shown(self) -> list[Path]:
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        return [f for f in files if not any(part.startswith(".") for part in self._name(f))]

    def _name(self, file: Path) -> tuple[str, ...]:
        return file.relative_to(self.folder).parts

    @cached_property
    def parts(self) -> dict[str, int]:
        """The number of passages of each document by its path in the folder."""
        names = (passage.id.rpartition("#")[0] for _, passage in self.passages())
        return dict(Counter(names))

    def identity(self) -> str:
        """Digest of the documents' names and bytes, the length and the reader's version."""
        files = [("/".join(self._name(file)), file_sha256(file)) for file in self.files]
        return digest([files, self.characters, _READING])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The parts of the documents; a document without text yields an empty passage."""
        plain, markdown = (splitter(self.characters, markdown=each) for each in (False, True))
        for file in self.files:
            title, text = _read_document(file)
            split = markdown if file.suffix.lower() in (".md", ".markdown") else plain
            name = "/".join(self._name(file))
            # A scan with a title but no text is an empty passage too, so that it is counted.
            for number, part in enumerate(split(text) or [""], 1):
                yield f"{file}, part {number}", Passage(f"{name}#{number}", part and title, part)


def _read_document(file: Path) -> tuple[str, str]:
    """Title and text; a document without a title is named after its file."""
    readers = {
        ".pdf": _pdf,
        ".html": _html,
        ".htm": _html,
        ".md": _markdown,
        ".markdown": _markdown,
    }
    title, text = readers.get(file.suffix.lower(), _text)(file)
    # A PDF's text may hold halves of surrogate pairs, which UTF-8 cannot encode.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return one_line(title) or re.sub(r"[_\W]+", " ", file.stem).strip(), text


def _text(file: Path) -> tuple[str, str]:
    try:
        return "", file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 (byte {error.start + 1})") from None


def _markdown(file: Path) -> tuple[str, str]:
    text = _text(file)[1]
    heading = _HEADING.search(text)
    return _unclosed(heading[1].rstrip()) if heading else "", text


def _unclosed(heading: str) -> str:
    """A heading without the hashes that close it, which stand after a blank."""
    bare = heading.rstrip("#")
    return bare.rstrip() if bare[-1:].isspace() else heading


def _html(file: Path) -> tuple[str, str]:
    try:
        page = BeautifulSoup(file.read_bytes(), "html.parser")  # it detects the encoding
    except Exception as error:  # of what no browser reads either, as a number without end
        raise InputError(f"{file}: cannot be read as HTML ({error_text(error)})") from None
    title = page.title.get_text() if page.title else ""
    for element in page(_NO_TEXT):
        element.decompose()
    return title, _blocks(page.body or page)


def _blocks(element: Any) -> str:
    """The text with a line for each block; inline elements do not break lines."""
    for cell in element.find_all(("td", "th")):
        cell.append(" ")
    for block in element.find_all(_BLOCKS):
        block.insert_before("\n\n")
        block.insert_after("\n\n")
    lines = (one_line(line) for line in element.get_text().split("\n\n"))
    return "\n\n".join(line for line in lines if line)


def _pdf(file: Path) -> tuple[str, str]:
    try:
        reader = PdfReader(file)
        pages = [page.extract_text() for page in reader.pages]
        title = str((reader.metadata.title if reader.metadata else None) or "")
    except Exception as error:  # pypdf raises many types of errors for broken files
        raise InputError(f"{file}: cannot be read as PDF ({error_text(error)})") from None
    return title, "\n\n".join(pages)
