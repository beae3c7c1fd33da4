"""What a recipe may say of the chat: what finds passages, and what answers from them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tercet.config.parsing import key


@dataclass(frozen=True)
class ChatSection:
    """Answers from the run's passages, by scripts/chat.py."""

    model: str = key(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "language model: folder or Hub name, or the endpoint's name of it",
    )
    gguf_file: str | None = key(None, "the GGUF file within `model`")
    endpoint: str | None = key(
        None,
        "base URL of an OpenAI-compatible API, such as https://api.openai.com/v1, its key in "
        "OPENAI_API_KEY; unset: the model runs here",
    )
    system: str = key(
        "adapted",
        "what finds passages: adapted, base, or the name of a base, adapted, dense or cohere "
        "system of evaluation.systems",
    )
    passages: int = key(4, "the most passages that an answer rests on and cites", low=1)
    threshold: float | None = key(
        None,
        "passages that score less are not used; unset: what the best passage of all but 5 of 100 "
        "held-out queries scores",
    )
    passage_characters: int = key(
        1000, "of each passage the language model reads so many; citations are whole", low=1
    )
    max_new_tokens: int | None = key(
        None, "longest answer in tokens; unset: 256 here, an endpoint's own", low=1
    )
    temperature: float | None = key(
        None, "of sampling, 0 for the likeliest; unset: 0 here, an endpoint's own", low=0
    )

    def misplaced(self) -> str | None:
        """What is wrong with it, in words that repeat no address; None if all is well."""
        if self.endpoint is None:
            return None
        if self.gguf_file:
            return "chat.gguf_file belongs to a model that runs here: leave out chat.endpoint"
        if self.model == ChatSection().model:
            return "chat.endpoint has models of its own: name one, chat.model"
        try:
            url = urlsplit(self.endpoint)
            whole = url.scheme in ("http", "https") and url.hostname and (url.port or True)
        except ValueError:
            whole = False
        if not whole:
            return "chat.endpoint is no address that begins https:// or http://"
        if url.username or url.password or url.query or url.fragment:
            return "chat.endpoint holds more than an address: a key goes into OPENAI_API_KEY"
        return None
