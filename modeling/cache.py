"""The user's cache, which is in `tercet.core.cache`."""

from tercet.core.cache import cache_folder as cache_folder, make_once as make_once
