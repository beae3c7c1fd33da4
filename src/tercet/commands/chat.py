"""`tercet chat`: answers from a finished run's passages, with citations, in the terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand
from tercet.core.schema import InputError

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe
    from tercet.serving.chat import Chat, Citation

SHOWN = 72  # characters of a passage in a list
History = list[tuple[str, str]]


@click.command(cls=RecipeCommand)
@click.option(
    "--question",
    "questions",
    multiple=True,
    metavar="TEXT",
    help="Answer this question and exit; may be repeated, each without history.",
)
def command(recipe: Recipe, *, questions: tuple[str, ...]) -> None:
    """Answer questions from a finished run's passages with a language model, citing passages.

    Without --question it is interactive: `/show 2` prints the whole text of passage 2, `/new`
    starts a new conversation, Ctrl-C stops an answer, Ctrl-D ends. The recipe's `chat` section has
    the model.
    """
    # LangChain is an extra: where it is missing, that is said in one line.
    from tercet.serving.chat import Chat

    with Chat.of(recipe) as chat:
        for line in chat.about:
            say(line, "dim")
        for question in questions:
            say(f"\n> {question}", "bold")
            answer(chat, question, [])
        if not questions:
            converse(chat)


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
            say("")
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
    from tercet.core.text import excerpt, printable

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
    from rich.text import Text

    from tercet.core.console import console
    from tercet.core.text import printable

    console.result(Text(printable(text), style), end=end, soft_wrap=True)
