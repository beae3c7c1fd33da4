"""Answer questions from a finished run's passages with a language model, citing passages.

    python scripts/chat.py RECIPE [--question "a question" ...]

Without --question it is interactive: `/show 2` prints the whole text of passage 2, `/new` starts a
new conversation, Ctrl-C stops an answer, Ctrl-D ends. The recipe's `chat` section has the model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.text import Text

from tercet import InputError, Recipe, cli
from tercet.core.console import console
from tercet.core.text import excerpt, printable

if TYPE_CHECKING:
    from tercet.serving.chat import Chat, Citation

OPTIONS = {
    "--question TEXT": "answer this question and exit; may be repeated, each without history"
}
SHOWN = 72  # characters of a passage in a list
History = list[tuple[str, str]]


def main() -> None:
    """Parse --question; other options override the recipe."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--question", action="append", default=[])
    given, sys.argv[1:] = parser.parse_known_args()

    def talk(recipe: Recipe, flags: Mapping[str, str]) -> None:
        # Imported here, so that a missing LangChain is reported in one line.
        from tercet.serving.chat import Chat

        with Chat.of(recipe) as chat:
            for line in chat.about:
                say(line, "dim")
            for question in given.question:
                say(f"\n> {question}", "bold")
                answer(chat, question, [])
            if not given.question:
                converse(chat)

    cli.run(talk, "scripts/chat.py", (__doc__ or "").partition("\n")[0], OPTIONS)


def converse(chat: Chat) -> None:
    """Answer typed questions until the end of input."""
    with suppress(ImportError):  # line editing, if available
        import readline  # noqa: F401
    history: History = []
    cited: list[Citation] = []
    while True:
        try:
            typed = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        command, _, rest = typed.partition(" ")
        if command == "/new":
            history, cited = [], []
        elif command == "/show":
            show(cited, rest)
        elif typed.startswith("/"):
            say("there are /show NUMBER and /new; Ctrl-D ends", "dim")
        elif typed:
            try:
                cited = answer(chat, typed, history)
            except InputError as error:
                say(f"error: {error}", "red")
            except KeyboardInterrupt:
                say("\n(stopped)", "dim")


def answer(chat: Chat, question: str, history: History) -> list[Citation]:
    """Print an answer while it is generated, then its citations; append it to the history."""
    cited, pieces = chat.ask(question, history)
    text = ""
    for piece in pieces:
        text += piece
        say(piece, end="")
    say("")
    for citation in cited:
        passage = citation.passage
        first = excerpt(printable(f"{passage.title} {passage.text}"), SHOWN)
        say(f"  [{citation.number}] {passage.id}  {citation.score:.3f}  {first}", "cyan")
    history.append((question, text))
    return cited


def show(cited: list[Citation], number: str) -> None:
    """Print the whole text of a cited passage."""
    chosen = [citation for citation in cited if str(citation.number) == number.strip()]
    if not chosen:
        say(f"the last answer cites {len(cited)} passages: give one of their numbers", "dim")
    for citation in chosen:
        passage = citation.passage
        say(f"{passage.id}  {passage.title}".rstrip(), "bold")
        say(passage.text)


def say(text: str, style: str = "", end: str = "\n") -> None:
    """Print untrusted text: without markup and control characters."""
    console.print(Text(printable(text), style), end=end, soft_wrap=True)


if __name__ == "__main__":
    main()
