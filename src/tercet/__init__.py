"""Tercet adapts a dense retriever to a corpus without labels and tests whether it got better.

Importing this package is fast: the names below load their modules when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tercet.core.schema import InputError as InputError
from tercet.version import __version__ as __version__

if TYPE_CHECKING:
    from tercet.api import Run as Run, adapt as adapt, evaluate as evaluate, load as load
    from tercet.config.loading import load_recipe as load_recipe
    from tercet.config.recipe import Recipe as Recipe
    from tercet.modeling.encoders.bi_encoder import BiEncoder as BiEncoder
    from tercet.pipeline.pipeline import Pipeline as Pipeline

_MODULES = {
    **dict.fromkeys(("Run", "adapt", "evaluate", "load"), "tercet.api"),
    "BiEncoder": "tercet.modeling.encoders.bi_encoder",
    "Pipeline": "tercet.pipeline.pipeline",
    "Recipe": "tercet.config.recipe",
    "load_recipe": "tercet.config.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
