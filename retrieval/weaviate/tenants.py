"""The tenants of a collection are read and searched as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tercet.core.schema import InputError
from tercet.retrieval.weaviate.client import WeaviateServer

_SHOWN = 10


class Parts:
    """The handles of the tenants; of a collection without tenants its own.

    A passage of one of several tenants has the id `TENANT/ID`, as names of tenants hold no slash.
    """

    def __init__(self, handle: Any, tenants: Sequence[str] = ()) -> None:
        self.tenants = list(tenants)
        several = len(self.tenants) > 1
        #: Prefix of ids -> handle.
        self.handles: dict[str, Any] = {
            f"{tenant}/" if several else "": handle.with_tenant(tenant) for tenant in self.tenants
        } or {"": handle}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.handles.items())

    def split(self, ids: Iterable[str]) -> Iterator[tuple[str, Any, list[str]]]:
        """Prefix, handle and ids without their prefix; ids of no part are left out."""
        found: dict[str, list[str]] = {prefix: [] for prefix in self.handles}
        for id in ids:
            tenant, slash, _ = id.partition("/")
            prefix = tenant + slash if tenant + slash in found else ""
            if prefix in found:
                found[prefix].append(id[len(prefix) :])
        for prefix, names in found.items():
            if names:
                yield prefix, self.handles[prefix], names


def check_tenants(
    server: WeaviateServer, config: Any, tenants: Sequence[str], setting: str
) -> list[str]:
    """The tenants to read. Raises InputError where they are missing, with those that there are."""
    name = str(config.name)
    if not config.multi_tenancy_config.enabled:
        if tenants:
            raise InputError(f"collection {name} has no tenants: leave out {', '.join(tenants)}")
        return []
    handle = server.client.collections.use(name)
    there = server.ask(f"list the tenants of {name}", handle.tenants.get)
    shown = ", ".join(sorted(there)[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
    if not tenants:
        raise InputError(
            f"collection {name} has tenants: name one or several of them ({setting}); there are: "
            f"{shown or 'none'}"
        )
    for tenant in tenants:
        if tenant not in there:
            raise InputError(
                f"collection {name} has no tenant {tenant!r}; there are: {shown or 'none'}"
            )
        status = there[tenant].activity_status.value
        if status != "ACTIVE" and not config.multi_tenancy_config.auto_tenant_activation:
            raise InputError(f"tenant {tenant} of collection {name} is {status}: activate it first")
    return list(dict.fromkeys(tenants))
