"""Aliases on a Weaviate server: the names under which collections are served."""

from __future__ import annotations

from tercet.retrieval.weaviate.client import WeaviateServer, check_name


def move_alias(server: WeaviateServer, alias: str, collection: str) -> None:
    """Point `alias` at a collection in one step, creating the alias if necessary."""
    server.need("aliases")
    check_name(alias)
    what, aliases = f"point alias {alias} at {collection}", server.client.alias

    def point() -> None:
        if aliases.get(alias_name=alias) is None:
            aliases.create(alias_name=alias, target_collection=collection)
        else:
            aliases.update(alias_name=alias, new_target_collection=collection)

    server.ask(what, point)


def collection_behind(server: WeaviateServer, alias: str) -> str | None:
    """The collection that an alias points at; None if there is no such alias."""
    server.need("aliases")
    found = server.ask(f"read alias {alias}", lambda: server.client.alias.get(alias_name=alias))
    return None if found is None else str(found.collection)
