"""The command line: `tercet COMMAND ...`. A command's module is imported when it is called."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from tercet.core.borders import is_out_of_memory, reason
from tercet.core.disk import told
from tercet.core.schema import InputError
from tercet.core.signals import Interrupted, end_with_parent, handled
from tercet.core.text import message_line
from tercet.version import __version__

#: Command -> the module of `tercet.commands` with its `command`, and its help in one line.
COMMANDS = {
    "demo": ("demo", "Adapt a small model to 7,200 bookmarks; brings models and corpus."),
    "init": ("init", "Look at your files, say what they hold, and write a recipe."),
    "forecast": ("forecast", "Estimate time, memory, disk and tokens of every step."),
    "audit": ("audit", "Find in minutes whether the teacher is worth learning from."),
    "adapt": ("adapt", "Adapt a retriever to a corpus without labels. Alias: train."),
    "eval": ("evaluate", "Compare the adapted model, its base, BM25 and others."),
    "search": ("search", "Search a finished run, or a live Weaviate collection."),
    "chat": ("chat", "Answer questions from a finished run's passages, with citations."),
    "studio": ("studio", "Open the studio: recipes, runs, results and search on one page."),
    "ingest": ("ingest", "Write a corpus's own vectors to a Weaviate collection."),
    "deploy": ("deploy", "Serve a run's vectors from your Weaviate collection."),
    "rollback": ("rollback", "Serve again what was served before a deploy."),
    "export": ("export", "Write a LangChain retriever, or the triplets for other trainers."),
    "push": ("push", "Push a finished run's model with its card to the Hub."),
    "space": ("space", "Write, and push, a Hugging Face Space that searches the passages."),
    "info": ("info", "Show what a run, a recipe or a model folder is."),
    "doctor": ("doctor", "Show what is installed, and which devices, servers and keys answer."),
}
ALIASES = {"train": "adapt"}
#: Exit code -> its meaning. A launch of several processes ends with its launcher's own code.
EXIT_CODES = {
    0: "done",
    1: "something outside failed, such as a disk or the memory: the same command resumes",
    2: "wrong input, told in one line",
    4: "training diverged: the line names the queries and the last checkpoint",
    129: "SIGHUP: the same command resumes",
    130: "Ctrl-C: the same command resumes",
    143: "SIGTERM: the same command resumes",
}
EPILOG = (
    "RECIPE is a YAML file, the folder of a run, or the name of a recipe that Tercet brings. Any "
    "key of it is an option: --training.learning_rate 3e-5. `tercet adapt --help SECTION` lists "
    "the keys.\n\n"
    "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + "."
)


class _Commands(click.Group):
    """The commands of the table, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tercet.commands.{COMMANDS[name][0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and args[0] not in ALIASES:
            close = difflib.get_close_matches(args[0], [*COMMANDS, *ALIASES], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(COMMANDS)}"
            raise InputError(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tercet")
def tercet() -> None:
    """Adapt a dense retriever to a corpus without labels, and tell whether it got better."""


def main(arguments: Sequence[str] | None = None, command: click.Command = tercet) -> NoReturn:
    """Run a command and exit with one of `EXIT_CODES`, and one line unless that is 0.

    An error of ours keeps its traceback.

    `arguments` begin with the command's name; by default they are those of this process. A program
    with a command of its own gives that.
    """
    given = sys.argv[1:] if arguments is None else [*arguments]
    if sys.platform == "win32":
        _stop("Tercet runs on Linux and macOS: on Windows, install it in WSL", 2, given)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by accelerate or torchrun
        end_with_parent()
    try:
        with handled():
            code = command.main(given or ["--help"], _name(command), standalone_mode=False) or 0
        sys.exit(code if given else 2)
    except Interrupted as stop:
        _stop(f"stopped by {stop.name}: run the same command again to resume", stop.code, given)
    except InputError as error:
        _stop(str(error), error.exit_code, given)
    except click.ClickException as error:
        _stop(error.format_message(), 2, given)
    except (KeyboardInterrupt, click.Abort):
        _stop("interrupted: run the same command again to resume", 130, given)
    except PermissionError as error:
        _stop(f"{error.filename}: {error.strerror}", 2, given)
    except Exception as error:
        if (line := told(error) or _of_memory(error)) is None:
            raise
        _stop(line, 1, given)


def _of_memory(error: Exception) -> str | None:
    """A line for an error of memory; None for any other."""
    if not is_out_of_memory(error):
        return None
    return (
        f"the memory does not suffice ({reason(error)}): lower "
        "training.per_device_train_batch_size or the batch sizes of the models, or close other "
        "programs, then run the same command again"
    )


def _name(command: click.Command) -> str:
    return "tercet" if command is tercet else Path(sys.argv[0]).name


def _stop(reason: str, code: int, given: Sequence[str]) -> NoReturn:
    """Print the reason in one line and exit with `code`."""
    reason = message_line(reason)
    sys.stdout.flush()
    if "--json-logs" in given:
        from tercet.core.console import console

        console.configure(json=True)
        console.error(reason)
        console.configure()
    else:
        print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)
