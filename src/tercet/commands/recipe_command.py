"""A command that takes a recipe and any `--section.key VALUE` of it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tercet.core.schema import InputError

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe

_HELP = ("-h", "--help")


class RecipeCommand(click.Command):
    """A command whose function gets the recipe, with the overrides of its command line.

    RECIPE is its first argument, unless `recipe` names one. Options that it does not know are keys
    of the recipe.
    """

    def __init__(self, *given: Any, recipe: str | None = None, **attributes: Any) -> None:
        super().__init__(*given, **attributes)
        self.fixed = recipe
        if recipe is None:
            self.params.insert(0, click.Argument(["recipe"], metavar="RECIPE"))
        self.params += [
            click.Option(["--quiet"], is_flag=True, help="Print the verdict, warnings and errors."),
            click.Option(["--json-logs"], is_flag=True, help="Messages as JSON lines on stderr."),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the overrides of the recipe out of the arguments; click reads the others."""
        for place, word in enumerate(args):
            if word in _HELP and args[place + 1 :] and not args[place + 1].startswith("-"):
                # It reads every key, and prints tables.
                from tercet.commands.keys import print_section

                print_section(args[place + 1].rstrip("."))
                ctx.exit()
        args, ctx.meta["overrides"] = self._overrides(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Load the recipe, and call the function with it."""
        from tercet.core.console import console

        console.configure(quiet=ctx.params.pop("quiet"), json=ctx.params.pop("json_logs"))
        try:
            recipe = self.fixed or ctx.params["recipe"]
            ctx.params["recipe"] = read_recipe(recipe, ctx.meta["overrides"])
            return super().invoke(ctx)
        finally:
            console.configure()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, then the sections of a recipe."""
        super().format_options(ctx, formatter)
        from tercet.commands.keys import sections

        with formatter.section("Keys of RECIPE, as --section.key VALUE; --help SECTION lists them"):
            formatter.write_dl([*sections().items()])

    def _overrides(self, args: list[str]) -> tuple[list[str], list[str]]:
        """The arguments that click knows, and the overrides."""
        takes_value = {
            name: not (isinstance(option, click.Option) and option.is_flag)
            for option in self.params
            for name in option.opts
            if name.startswith("-")
        }
        takes_value |= dict.fromkeys(_HELP, False)
        known: list[str] = []
        overrides: list[str] = []
        pending = list(args)
        while pending:
            word = pending.pop(0)
            name, equals, _ = word.partition("=")
            if word == "--":
                return known + pending, overrides
            if not word.startswith("--") or name in takes_value:
                known.append(word)
                if takes_value.get(name) and not equals and pending:
                    known.append(pending.pop(0))
                continue
            self._refuse_near_miss(name, [*takes_value])
            overrides.append(word)
            if not equals and pending:
                overrides.append(pending.pop(0))
        return known, overrides

    def _refuse_near_miss(self, name: str, options: Sequence[str]) -> None:
        """Raise InputError for an option that nearly is one of the command's."""
        from tercet.config.keys import similar
        from tercet.config.recipe import Recipe

        close = difflib.get_close_matches(name, options, n=1, cutoff=0.75)
        if close and "." not in name and not similar(name[2:].replace("-", "_"), Recipe):
            raise InputError(f"{name}: there is no such option; did you mean {close[0]!r}?")


def read_recipe(given: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file, of a run's folder, or that Tercet brings under a name.

    Raises InputError if there is none, or if it is not valid.
    """
    # YAML and every section, which help does not need.
    from tercet.config.loading import load_recipe, load_run
    from tercet.config.packaged import packaged_recipe

    if not Path(given).exists() and (packaged := packaged_recipe(str(given))):
        return load_recipe(packaged, overrides)
    return load_run(given, overrides)
