"""Tercet adapts a dense retriever to a corpus without labels, and proves whether it got better.

The vocabulary is in `tercet.core.schema`; the pipeline's rooms are `tercet.data`, `tercet.modeling`
and `tercet.retrieval`. Importing this module is cheap: no torch, no transformers.
"""

from tercet.config.loading import load_recipe as load_recipe
from tercet.config.recipe import Recipe as Recipe
from tercet.core.schema import InputError as InputError
from tercet.version import __version__ as __version__
