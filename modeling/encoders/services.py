"""Encoders behind an API by the service's name; a library that a service needs is an extra."""

from __future__ import annotations

from typing import Any

from tercet.core.schema import InputError
from tercet.modeling.encoders.api_encoder import ApiEncoder

#: OpenAI's own address.
OPENAI = "https://api.openai.com/v1"


def open_service(
    api: str,
    model: str,
    *,
    dimension: int | None = None,
    dollars: float | None = None,
    dollars_per_million_tokens: float | None = None,
    **of_openai: Any,
) -> ApiEncoder:
    """A model behind "cohere" or "openai"; `of_openai` are arguments of `OpenAIEncoder`.

    What is None there is that class's own default. Raises InputError for another service.
    """
    given: dict[str, Any] = {
        "dollars": dollars,
        "dollars_per_million_tokens": dollars_per_million_tokens,
    }
    if api == "cohere":
        from tercet.modeling.encoders.cohere import CohereEncoder

        return CohereEncoder(model, output_dimension=dimension, **given)
    if api != "openai":
        raise InputError(f"api {api!r} is not known here")
    from tercet.modeling.encoders.openai import OpenAIEncoder

    given |= {"endpoint": OPENAI, "dimension": dimension}
    given |= {name: value for name, value in of_openai.items() if value is not None}
    return OpenAIEncoder(model, **given)
