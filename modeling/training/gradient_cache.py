"""Gradient caching (GradCache, arXiv 2101.06983): a large batch in the memory of a small one.

A loss over all vectors of a batch needs all vectors at once, but not the graphs of their encoding.
So the batch is encoded in chunks without a graph, the loss gives each vector's gradient, and each
chunk is encoded a second time to propagate its vectors' gradients to the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from tercet.modeling.batching import cut_batch

#: Inputs of texts, [texts, tokens] each -> vectors [texts, dimension].
_Encode = Callable[[Mapping[str, Tensor]], Tensor]


class GradientCache:
    """The vectors of each side of a batch (queries, passages), and their backward passes.

    `vectors` are leaves without a graph, float32 [texts, dimension] for each side. After
    `differentiate`, the backward passes of all chunks' `replay` add up to that of the loss.
    """

    def __init__(
        self, encode: _Encode, sides: Sequence[Mapping[str, Tensor]], chunk_tokens: int
    ) -> None:
        self._encode = encode
        self.vectors: list[Tensor] = []
        self.chunks: list[_Chunk] = []
        self._gradients: tuple[Tensor, ...] = ()
        for side, inputs in enumerate(sides):
            chunks = [_Chunk(side, *chunk) for chunk in cut_batch(inputs, chunk_tokens)]
            with torch.no_grad():
                encoded = torch.cat([chunk.encoded(encode) for chunk in chunks])
            rows = torch.cat([chunk.rows for chunk in chunks])
            self.vectors.append(torch.empty_like(encoded).index_copy_(0, rows, encoded))
            self.vectors[-1].requires_grad_()
            self.chunks += chunks

    def differentiate(self, loss: Tensor) -> None:
        """Store the gradient of a loss with respect to the vectors."""
        self._gradients = torch.autograd.grad(loss, self.vectors)

    def replay(self, chunk: _Chunk) -> Tensor:
        """Encode a chunk again; the returned scalar has its part of the gradient of the loss."""
        vectors = chunk.encoded_again(self._encode)
        return (vectors * self._gradients[chunk.side][chunk.rows]).sum()


class _Chunk:
    """Some rows of one side of a batch, and the random state of their first encoding.

    `rows` are int64 [texts]. The second encoding starts from the same state, so dropout is equal.
    """

    def __init__(self, side: int, rows: Tensor, inputs: Mapping[str, Tensor]) -> None:
        self.side = side
        self.rows = rows
        self._inputs = inputs
        self._random: tuple[Tensor, list[int], list[Tensor]] | None = None

    def encoded(self, encode: _Encode) -> Tensor:
        """Encode for the first time; vectors [texts, dimension]."""
        self._random = (torch.get_rng_state(), *get_device_states(*self._inputs.values()))
        return encode(self._inputs)

    def encoded_again(self, encode: _Encode) -> Tensor:
        """Encode again, from the same random state, to the same vectors."""
        assert self._random is not None, "it was encoded before"
        cpu, devices, states = self._random
        with torch.random.fork_rng(devices):
            torch.set_rng_state(cpu)
            set_device_states(devices, states)
            return encode(self._inputs)
