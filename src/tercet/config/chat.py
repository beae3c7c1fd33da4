"""The `chat` section: the retriever and the language model of the chat."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tercet.config.parsing import key


@dataclass(frozen=True)
class ChatSection:
    """Answers from the run's passages."""

    model: str = key(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "language model: folder or Hub name; with `endpoint` the API's model name",
    )
    gguf_file: str | None = key(None, "GGUF file in `model`")
    endpoint: str | None = key(
        None,
        "base URL of an OpenAI-compatible API, such as https://api.openai.com/v1, with its key in "
        "OPENAI_API_KEY; unset: a local model",
    )
    system: str = key(
        "adapted",
        "retriever: adapted, base, or the name of a base, adapted, dense or api system in "
        "evaluation.systems",
    )
    passages: int = key(4, "maximum number of passages per answer", low=1)
    threshold: float | None = key(
        None,
        "minimum score of a passage; unset: exceeded by the best passage of 95% of the held-out "
        "queries",
    )
    passage_characters: int = key(
        1000, "characters of each passage in the prompt; citations show all of it", low=1
    )
    max_new_tokens: int | None = key(
        None, "maximum tokens of an answer; unset: 256, or the endpoint's default", low=1
    )
    temperature: float | None = key(
        None, "sampling temperature, 0: greedy; unset: 0, or the endpoint's default", low=0
    )

    def misplaced(self) -> str | None:
        """The fault of these settings without the endpoint's address, or None."""
        if self.endpoint is None:
            return None
        if self.gguf_file:
            return "chat.gguf_file belongs to a local model: leave out chat.endpoint"
        if self.model == ChatSection().model:
            return "chat.endpoint has models of its own: give chat.model"
        try:
            url = urlsplit(self.endpoint)
            whole = url.scheme in ("http", "https") and url.hostname and (url.port or True)
        except ValueError:
            whole = False
        if not whole:
            return "chat.endpoint is not a URL that begins with https:// or http://"
        if url.username or url.password or url.query or url.fragment:
            return "chat.endpoint holds more than a URL: put the key into OPENAI_API_KEY"
        return None
