"""Gradient caching (GradCache, arXiv 2101.06983): a large batch in the memory of a small one.

A loss over all vectors of a batch needs them all at once, but not how they came about. So the
batch is encoded in chunks that keep no graph, the loss says how each vector should change, and
each chunk is encoded once more to pass that on to the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from tercet.modeling.batching import cut_batch

#: Inputs of texts, [texts, tokens] each -> vectors [texts, dimension].
Encode = Callable[[Mapping[str, Tensor]], Tensor]


class GradientCache:
    """The vectors of each side of a batch (its queries, its passages), and their way back.

    `vectors` are leaves without a graph, float32 [texts, dimension] a side. After `differentiate`,
    the backward passes of all chunks' `replay` add up to that of the loss.
    """

    def __init__(
        self, encode: Encode, sides: Sequence[Mapping[str, Tensor]], chunk_tokens: int
    ) -> None:
        self._encode = encode
        self.vectors: list[Tensor] = []
        self.chunks: list[Chunk] = []
        self._gradients: tuple[Tensor, ...] = ()
        for side, inputs in enumerate(sides):
            chunks = [Chunk(side, *chunk) for chunk in cut_batch(inputs, chunk_tokens)]
            with torch.no_grad():
                encoded = torch.cat([chunk.encoded(encode) for chunk in chunks])
            rows = torch.cat([chunk.rows for chunk in chunks])
            self.vectors.append(torch.empty_like(encoded).index_copy_(0, rows, encoded))
            self.vectors[-1].requires_grad_()
            self.chunks += chunks

    def differentiate(self, loss: Tensor) -> None:
        """Keep the gradient of a loss with respect to the vectors."""
        self._gradients = torch.autograd.grad(loss, self.vectors)

    def replay(self, chunk: Chunk) -> Tensor:
        """Encode a chunk again, for a scalar whose gradient is the chunk's part of the loss's."""
        vectors = chunk.encoded_again(self._encode)
        return (vectors * self._gradients[chunk.side][chunk.rows]).sum()


class Chunk:
    """Some rows of one side of a batch, and the random state they met.

    `rows` are int64 [texts]; dropout drops the same when it is encoded again.
    """

    def __init__(self, side: int, rows: Tensor, inputs: Mapping[str, Tensor]) -> None:
        self.side = side
        self.rows = rows
        self._inputs = inputs
        self._random: tuple[Tensor, list[int], list[Tensor]] | None = None

    def encoded(self, encode: Encode) -> Tensor:
        """Vectors [texts, dimension]."""
        self._random = (torch.get_rng_state(), *get_device_states(*self._inputs.values()))
        return encode(self._inputs)

    def encoded_again(self, encode: Encode) -> Tensor:
        """The same vectors, drawn from the same random state."""
        assert self._random is not None, "it was encoded before"
        cpu, devices, states = self._random
        with torch.random.fork_rng(devices):
            torch.set_rng_state(cpu)
            set_device_states(devices, states)
            return encode(self._inputs)
