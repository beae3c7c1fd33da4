"""A folder of documents: text, Markdown, HTML and PDF files, split into passages.

A passage is named by its file's path in the folder and its number there, so adding a file renames
no passage of another. It ends where the document does: at headings, paragraphs and sentences
rather than within them. Beautiful Soup reads HTML, pypdf PDF, and semantic-text-splitter splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from tercet.core.console import console
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage

try:
    from bs4 import BeautifulSoup
    from pypdf import PdfReader
    from semantic_text_splitter import MarkdownSplitter, TextSplitter
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf")
#: Grows when the same files are read differently.
READING = 1
_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
_BLOCKS = (
    *("p", "div", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "pre", "br", "blockquote"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "header", "footer", "main"),
    *("figure", "figcaption", "address", "form", "details", "summary"),
)
_NO_TEXT = ("script", "style", "noscript", "template", "nav")


class Documents:
    """Reads every document in a folder and its subfolders; hidden ones are passed over."""

    def __init__(self, path: str, *, characters: int) -> None:
        if not INSTALLED:
            raise InputError("the readers are not installed: pip install 'tercet[documents]'")
        self.folder, self.characters = Path(path), characters
        if not self.folder.is_dir():
            raise InputError(f"{path}: no such folder (corpus.path)")
        if not self.files:
            raise InputError(f"{path}: holds no document ({', '.join(SUFFIXES)})")
        others = Counter(
            file.suffix or "no suffix"
            for file in self._shown
            if file.suffix.lower() not in SUFFIXES
        )
        if others:
            kinds = ", ".join(f"{count:,} of {kind}" for kind, count in others.most_common())
            console.print(f"[yellow]passed over[/] in {path}: {kinds}")

    @cached_property
    def files(self) -> list[Path]:
        """The documents, in the order of their paths."""
        return [file for file in self._shown if file.suffix.lower() in SUFFIXES]

    @cached_property
    def _shown(self) -> list[Path]:
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        return [f for f in files if not any(part.startswith(".") for part in self._name(f))]

    def _name(self, file: Path) -> tuple[str, ...]:
        return file.relative_to(self.folder).parts

    def identity(self) -> str:
        """Digest of the documents' names and bytes, and of the way they are split."""
        files = [("/".join(self._name(file)), file_sha256(file)) for file in self.files]
        return digest([files, self.characters, READING])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The documents' parts; one without text yields a passage without, to be counted."""
        plain, markdown = TextSplitter(self.characters), MarkdownSplitter(self.characters)
        for file in self.files:
            title, text = read_document(file)
            splitter = markdown if file.suffix.lower() in (".md", ".markdown") else plain
            name = "/".join(self._name(file))
            # A title is no text: a scan without any is a passage without text, to be counted.
            for number, part in enumerate(splitter.chunks(text) or [""], 1):
                yield f"{file}, part {number}", Passage(f"{name}#{number}", part and title, part)


def read_document(file: Path) -> tuple[str, str]:
    """Title and text. The title is the document's own, else its file's name in words."""
    readers = {
        ".pdf": _pdf,
        ".html": _html,
        ".htm": _html,
        ".md": _markdown,
        ".markdown": _markdown,
    }
    title, text = readers.get(file.suffix.lower(), _text)(file)
    # A PDF's text may hold half a character, which no model reads.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(title.split()) or re.sub(r"[_\W]+", " ", file.stem).strip(), text


def _text(file: Path) -> tuple[str, str]:
    try:
        return "", file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 (byte {error.start + 1})") from None


def _markdown(file: Path) -> tuple[str, str]:
    text = _text(file)[1]
    heading = _HEADING.search(text)
    return heading[1] if heading else "", text


def _html(file: Path) -> tuple[str, str]:
    page = BeautifulSoup(file.read_bytes(), "html.parser")  # finds out the encoding itself
    title = page.title.get_text() if page.title else ""
    for element in page(_NO_TEXT):
        element.decompose()
    return title, _blocks(page.body or page)


def _blocks(element: Any) -> str:
    """The text, a line for each block; a sentence with a link in it stays one line."""
    for cell in element.find_all(("td", "th")):
        cell.append(" ")
    for block in element.find_all(_BLOCKS):
        block.insert_before("\n\n")
        block.insert_after("\n\n")
    lines = (" ".join(line.split()) for line in element.get_text().split("\n\n"))
    return "\n\n".join(line for line in lines if line)


def _pdf(file: Path) -> tuple[str, str]:
    try:
        reader = PdfReader(file)
        pages = [page.extract_text() for page in reader.pages]
        title = (reader.metadata.title if reader.metadata else None) or ""
    except Exception as error:  # pypdf meets broken files with whatever they break
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{file}: cannot be read as PDF ({reason})") from None
    return title, "\n\n".join(pages)
