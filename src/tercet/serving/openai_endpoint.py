"""A language model behind an OpenAI-compatible API, in LangChain's terms."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tercet.config.chat import ChatSection
from tercet.core.schema import InputError

try:
    import openai
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr
except ImportError:
    raise InputError("langchain-openai is not installed: pip install 'tercet[chat]'") from None

KEY = "OPENAI_API_KEY"
# What openai stands on: httpx2 since its version 3, httpx before. A broken stream is theirs.
_HTTP = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
_BROKEN = tuple(library.HTTPError for library in _HTTP)
_TOO_LATE = (openai.APITimeoutError, *(library.TimeoutException for library in _HTTP))
#: What a call may end in, beside an answer: the last three where a server speaks another language.
FAULTS = (openai.OpenAIError, *_BROKEN, ValueError, KeyError, TypeError)
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_PATIENCE = 120.0  # seconds without a byte
_MEANINGS = {
    401: f"refuses the key: set {KEY} in the environment",
    403: f"refuses the key: set another {KEY} in the environment",
    404: "knows no such model or address: set chat.model and chat.endpoint",
    413: "was sent more than it takes: lower chat.passages or chat.passage_characters",
    429: "is busy, or the account has nothing left: wait, or look at its quota",
}


def endpoint_model(section: ChatSection) -> ChatOpenAI:
    """The model at `chat.endpoint`; no tool is ever bound to it.

    The key is taken from OPENAI_API_KEY, and goes into the Authorization header alone. Raises
    InputError for a key that would travel in the clear, or is none.
    """
    key = os.environ.get(KEY, "")
    url = urlsplit(section.endpoint or "")
    if key and url.scheme == "http" and url.hostname not in _THIS_MACHINE:
        raise InputError(
            f"chat.endpoint is http, and {KEY} would travel in the clear: give https, or unset it"
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise InputError(f"{KEY} holds a blank or another character that is in no key")
    asked: dict[str, Any] = {
        "temperature": section.temperature,
        "max_completion_tokens": section.max_new_tokens,
    }
    return ChatOpenAI(
        model=section.model,
        base_url=section.endpoint,
        api_key=SecretStr(key or "none"),  # a server without keys does not look at it
        timeout=_PATIENCE,
        use_responses_api=False,
        **{name: value for name, value in asked.items() if value is not None},
    )


@contextmanager
def explained(section: ChatSection) -> Iterator[None]:
    """What goes wrong within is one line, which repeats nothing of what the server said.

    That may hold the key that it was sent.
    """
    try:
        yield
    except FAULTS as error:
        host = urlsplit(section.endpoint or "").hostname
        raise InputError(f"{host} {_meaning(error)}") from None


def _meaning(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        return _MEANINGS.get(error.status_code, f"answers with status {error.status_code}")
    if isinstance(error, _TOO_LATE):
        return f"says nothing for {_PATIENCE:.0f} s: try again"
    if isinstance(error, openai.APIConnectionError):
        return "does not answer: look at chat.endpoint and the network"
    if isinstance(error, (openai.APIError, *_BROKEN)):
        return "broke off its answer: try again"
    return "gives no chat completions: look at chat.endpoint, which often ends in /v1"
