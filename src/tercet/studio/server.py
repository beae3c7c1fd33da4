"""Serves the studio's page on this machine alone."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from socket import socket

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from tercet.core.console import console
from tercet.studio.places import Places
from tercet.studio.tabs.page import mount_page

_HOST = "127.0.0.1"
#: Seconds that open requests have to end after Ctrl-C. Every page in a browser holds a stream of
#: events open, for which uvicorn would wait without a limit.
_PATIENCE = 1


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop, without logging each cancelled stream as an error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def serve(root: Path, port: int) -> None:
    """Serve the project in `root` until Ctrl-C or SIGTERM."""
    os.chdir(root)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Refuses requests from another site whose name was made to resolve to this machine.
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])
    page = mount_page(server, Places(root), _HOST, port)
    console.print(f"the studio is at http://{_HOST}:{port}; Ctrl-C ends it, and no run")
    # Not Gradio's own launch, which can open tunnels.
    config = uvicorn.Config(
        page, host=_HOST, port=port, log_level="warning", timeout_graceful_shutdown=_PATIENCE
    )
    with suppress(KeyboardInterrupt):
        _Server(config).run()
