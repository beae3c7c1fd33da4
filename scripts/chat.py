"""Ask a finished run's passages; a language model answers, and every answer cites its passages.

    python scripts/chat.py RECIPE [--question "a question" ...]

Without --question it goes on asking: `/show 2` prints passage 2 of the last answer whole, `/new`
forgets what was said, Ctrl-C stops an answer, and Ctrl-D ends. The recipe's `chat` section says
what answers.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.text import Text

from tercet import InputError, Recipe, cli
from tercet.core.console import console
from tercet.core.text import printable

if TYPE_CHECKING:
    from tercet.serving.chat import Chat, Citation

OPTIONS = {"--question TEXT": "answer this, as many as are given, each on its own, and stop"}
SHOWN = 72  # characters of a passage in a list
History = list[tuple[str, str]]


def main() -> None:
    """Take the option of this program; the rest is the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--question", action="append", default=[])
    given, sys.argv[1:] = parser.parse_known_args()

    def talk(recipe: Recipe, flags: set[str]) -> None:
        # Refused in one line where LangChain, an extra, is missing.
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
    """Answer what is typed, until its end."""
    with suppress(ImportError):  # lines can be edited where there is readline
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
    """Print an answer as it comes, then what it cites, and add it to the history."""
    cited, pieces = chat.ask(question, history)
    said = ""
    for piece in pieces:
        said += piece
        say(piece, end="")
    say("")
    for citation in cited:
        passage = citation.passage
        first = " ".join(printable(f"{passage.title} {passage.text}").split())
        first = first if len(first) <= SHOWN else f"{first[: SHOWN - 1]}…"
        say(f"  [{citation.number}] {passage.id}  {citation.score:.3f}  {first}", "cyan")
    history.append((question, said))
    return cited


def show(cited: list[Citation], number: str) -> None:
    """Print a cited passage whole."""
    chosen = [citation for citation in cited if str(citation.number) == number.strip()]
    if not chosen:
        say(f"the last answer cites {len(cited)} passages: give one of their numbers", "dim")
    for citation in chosen:
        passage = citation.passage
        say(f"{passage.id}  {passage.title}".rstrip(), "bold")
        say(passage.text)


def say(text: str, style: str = "", end: str = "\n") -> None:
    """Print a text as it is: no markup in it counts, and it commands no terminal."""
    console.print(Text(printable(text), style), end=end, soft_wrap=True)


if __name__ == "__main__":
    main()
