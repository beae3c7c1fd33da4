"""A language model behind an OpenAI-compatible API, as a LangChain chat model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tercet.config.chat import ChatSection
from tercet.core.extras import missing
from tercet.core.schema import InputError

try:
    import openai
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr
except ImportError:
    raise missing("langchain-openai", "chat") from None

_KEY = "OPENAI_API_KEY"
# The HTTP library of openai (httpx2 since version 3), which raises the errors of broken streams.
_HTTP = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
_BROKEN = tuple(library.HTTPError for library in _HTTP)
_TOO_LATE = (openai.APITimeoutError, *(library.TimeoutException for library in _HTTP))
# Errors of a call; the last four occur if a server does not follow the protocol.
_FAULTS = (openai.OpenAIError, *_BROKEN, ValueError, KeyError, TypeError, RecursionError)
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_TIMEOUT = 120.0  # seconds without data
_MEANINGS = {
    401: f"refuses the key: set {_KEY} in the environment",
    403: f"refuses the key: set another {_KEY} in the environment",
    404: "does not know the model or the address: check chat.model and chat.endpoint",
    413: "refuses the request as too long: lower chat.passages or chat.passage_characters",
    429: "is busy or the quota is used up: wait, or check the account",
}


def endpoint_model(section: ChatSection) -> ChatOpenAI:
    """The model at `chat.endpoint`, without tools.

    The key from OPENAI_API_KEY is sent in the Authorization header only. Raises InputError for a
    key that would be sent unencrypted and for an invalid key.
    """
    key = os.environ.get(_KEY, "")
    url = urlsplit(section.endpoint or "")
    if key and url.scheme == "http" and url.hostname not in _THIS_MACHINE:
        raise InputError(
            f"chat.endpoint is http, and {_KEY} would be sent in the clear: use https, or unset it"
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise InputError(f"{_KEY} holds a blank or another character that is invalid in a key")
    options: dict[str, Any] = {
        "temperature": section.temperature,
        "max_completion_tokens": section.max_new_tokens,
    }
    return ChatOpenAI(
        model=section.model,
        base_url=section.endpoint,
        api_key=SecretStr(key or "none"),  # servers without keys ignore it
        timeout=_TIMEOUT,
        use_responses_api=False,
        **{name: value for name, value in options.items() if value is not None},
    )


@contextmanager
def explained(section: ChatSection) -> Iterator[None]:
    """Turn errors of the model within the block into InputError, with one line each.

    The line omits the server's message, which may repeat the key.
    """
    try:
        yield
    except _FAULTS as error:
        host = urlsplit(section.endpoint or "").hostname
        raise InputError(f"{host} {_meaning(error)}") from None


def _meaning(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        return _MEANINGS.get(error.status_code, f"answers with status {error.status_code}")
    if isinstance(error, _TOO_LATE):
        return f"did not respond for {_TIMEOUT:.0f} s: try again"
    if isinstance(error, openai.APIConnectionError):
        return "does not answer: check chat.endpoint and the network"
    if isinstance(error, (openai.APIError, *_BROKEN)):
        return "broke off its answer: try again"
    return "returns no chat completions: check chat.endpoint, which often ends in /v1"
