"""Serves the studio's page, on this machine alone unless it is asked to listen."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from tercet.core.console import console
from tercet.studio.guard import Guard
from tercet.studio.places import Places
from tercet.studio.tabs.page import mount_page

_HOST, _EVERY = "127.0.0.1", "0.0.0.0"
#: Seconds that open requests have to end after Ctrl-C. Every page in a browser holds a stream of
#: events open, for which uvicorn would wait without a limit.
_PATIENCE = 1


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop, without logging each cancelled stream as an error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def serve(
    root: Path,
    port: int,
    *,
    listen: bool = False,
    names: Sequence[str] = (),
    root_path: str = "",
) -> None:
    """Serve the project in `root` until Ctrl-C or SIGTERM.

    With `listen` other machines reach it. `names` are host names of a proxy before it, and
    `root_path` is where that proxy has it.
    """
    os.chdir(root)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Refuses requests from another site whose name was made to resolve to this machine.
    hosts = ["*"] if listen else [_HOST, "localhost", *names]
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    host = _EVERY if listen else _HOST
    page = Guard(mount_page(server, Places(root), host, port, root_path), port, names)
    console.print(
        f"the studio is at http://{_HOST}:{port}/?token={page.token} ; Ctrl-C ends it, and no run"
    )
    console.print(f"  from another machine: ssh -L {port}:{_HOST}:{port} THIS, then that address")
    # Not Gradio's own launch, which can open tunnels.
    config = uvicorn.Config(
        page, host=host, port=port, log_level="warning", timeout_graceful_shutdown=_PATIENCE
    )
    with suppress(KeyboardInterrupt):
        _Server(config).run()
