"""What `mkdocs build` adds: the pages of the reference, and llms.txt for programs that read."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import reference

SUMMARY = (
    "Tercet adapts a dense retriever to a corpus without labels and measures, with intervals, "
    "whether it got better. The command is `tercet`; in Python, `tercet.adapt(passages)`."
)
#: Headings, code, tables, pictures and lists.
_NO_PROSE = re.compile(r"#|```|\||<|!|- ")
_pages: list[Page] = []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for path, page in reference.pages().items():
        files.append(File.generated(config, path, content=page()))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    """Keep the pages in the order of the navigation."""
    _pages[:] = nav.pages


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Include the file that a page names, and keep intervals on one line."""
    markdown = re.sub(r"(\[[+−]\.\d+,) ([+−]\.\d+\])", "\\1\u00a0\\2", markdown)
    return re.sub(
        r'^--8<-- "(.+)"$',
        lambda found: _included(Path(config.config_file_path or "").parent / found[1]),
        markdown,
        flags=re.MULTILINE,
    )


def _included(path: Path) -> str:
    """The file's text without its title, which the page has."""
    return re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8"))


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt, a list of all pages, and llms-full.txt, their texts."""
    base = config.site_url or ""
    lines, texts, section = [f"# {config.site_name}", "", f"> {SUMMARY}"], [], None
    for page in _pages:
        parent: Any = page.parent
        # What stands alone at the end of the navigation is optional, as llms.txt calls it.
        title = parent.title if parent is not None else "Optional" if section else "Start"
        if title != section and not (parent is None and section == "Start"):
            lines += ["", f"## {title}", ""]
            section = title
        lines.append(f"- [{page.title}]({base}{page.url}): {_first_sentence(page.markdown or '')}")
        texts.append(f"<!-- {base}{page.url} -->\n\n{(page.markdown or '').strip()}\n")
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(texts), encoding="utf-8")


def _first_sentence(markdown: str) -> str:
    """The first sentence of a page's first paragraph."""
    blocks = (block.strip() for block in markdown.split("\n\n"))
    text = next((block for block in blocks if block and not _NO_PROSE.match(block)), "")
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", " ".join(text.split()))
    return re.split(r"(?<=[.:])\s", text, maxsplit=1)[0].rstrip(":")
