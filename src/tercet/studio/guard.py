"""Who may use the studio: whoever has its token, from its own page, with requests of bounded size.

The token is in the address that is printed, as Jupyter's is; a cookie holds it from then on. Other
users of the machine do not see it, and other sites' pages cannot send it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Environment variable: the token; unset: another one at each start.
TOKEN = "TERCET_STUDIO_TOKEN"
#: Bytes of a request's body: a form with every key of a recipe has some ten thousand.
LARGEST = 1 << 22
_SAFE = ("GET", "HEAD", "OPTIONS")
_PARAMETER = "token"


class Guard:
    """Refuses requests without the token, of other sites, and those that are too large.

    `names` are host names beside the request's own whose pages may send requests: those of a proxy.
    """

    def __init__(self, app: ASGIApp, port: int, names: Collection[str] = ()) -> None:
        self.app, self.names = app, names
        self.token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
        self._cookie = f"tercet-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = self._refusal(HTTPConnection(scope))
        if answer is None and scope["type"] == "http" and scope["method"] not in _SAFE:
            body = await _body(receive)
            answer = PlainTextResponse("too large", 413) if body is None else None
            receive = _Again(body or b"", receive)
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, _unkept(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, request: HTTPConnection) -> Response | None:
        if request.scope.get("method") not in _SAFE and not self._own(request):
            return PlainTextResponse("requests of another site are refused", 403)
        given = dict(request.query_params).get(_PARAMETER, "")
        if given and self._is_token(given):
            answer = RedirectResponse(_without_token(request), 303)
            path = request.scope.get("root_path") or "/"
            answer.set_cookie(self._cookie, self.token, httponly=True, samesite="lax", path=path)
            return answer
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(request.cookies.get(self._cookie, "")) or self._is_token(sent):
            return None
        return PlainTextResponse(
            "The studio opens by the address that `tercet studio` printed, with its token.", 403
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _own(self, request: HTTPConnection) -> bool:
        """Whether a request that changes something is the studio's own page's, or no browser's."""
        origin = request.headers.get("origin")
        if origin is None:
            return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        try:
            host = urlsplit(origin)
            return host.netloc == request.headers.get("host") or host.hostname in self.names
        except ValueError:
            return False


def _without_token(request: HTTPConnection) -> str:
    """The address without the token: it shall not stay in the browser's history."""
    kept = [pair for pair in parse_qsl(request.url.query) if pair[0] != _PARAMETER]
    path = "/" + request.url.path.lstrip("/\\")  # never //another.host
    return f"{path}?{urlencode(kept)}" if kept else path


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if it is larger than `LARGEST`."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST:
            return None
        if not message.get("more_body"):
            return body


class _Again:
    """Gives a body that was read, then what follows it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        body, self.body = self.body, None
        if body is None:
            return await self.receive()
        return {"type": "http.request", "body": body, "more_body": False}


def _unkept(send: Send) -> Send:
    """Answers that no browser keeps, and whose address it tells nobody."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Cache-Control"], headers["Referrer-Policy"] = "no-store", "no-referrer"
        await send(message)

    return sent
