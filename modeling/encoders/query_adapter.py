"""A query adapter: what can be learnt in seconds while the passages' vectors stand still.

It is a student of its own, and the bench on which targets are tried before they train others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Sum of errors of margins, as in `training.losses`: (student, target, mask) -> scalar.
MarginLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Times that an adapter sees each query.
EPOCHS = 20


class QueryAdapter(nn.Module):
    """q + (q A) B, of unit length where the student's vectors are. B begins at zero.

    Before it is trained it changes nothing, so the student as it came is where it starts from.
    """

    def __init__(self, dimension: int, *, rank: int = 64, normalize: bool = True) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(dimension, rank) / dimension**0.5)
        self.up = nn.Parameter(torch.zeros(rank, dimension))
        self.normalize = normalize

    def forward(self, queries: Tensor) -> Tensor:
        """float32 [queries, dimension] to the same shape."""
        # Autocast would multiply in half precision: small moves are all there is to learn.
        with torch.autocast(queries.device.type, enabled=False):
            moved = queries + queries @ self.down @ self.up
            return F.normalize(moved, dim=-1) if self.normalize else moved

    def apply_to(self, queries: np.ndarray) -> np.ndarray:
        """The same for arrays."""
        with torch.inference_mode():
            found = self(torch.from_numpy(queries).to(self.down.device))
            return np.asarray(found.cpu().numpy())

    def matrix(self) -> np.ndarray:
        """The map as one matrix, float32 [dimension, dimension]: a query's row times this."""
        with torch.inference_mode():
            down, up = self.down.double(), self.up.double()
            return np.asarray((torch.eye(len(down)).to(down) + down @ up).float().cpu().numpy())


def train_adapter(
    queries: np.ndarray,
    passages: np.ndarray,
    lists: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    loss: MarginLoss,
    *,
    normalize: bool,
    rank: int = 64,
    epochs: int = EPOCHS,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 13,
) -> QueryAdapter:
    """Fit the margins of each query's list, the positive first, by AdamW on the adapter alone.

    `queries` and `passages` are float32 [n, dimension]; `lists` has rows of `passages` and
    `targets` the score that each should get. Equal arguments give equal weights, and the caller's
    random state is left alone.
    """
    rows, target, mask = _padded(lists, targets)
    q, p = torch.from_numpy(queries), torch.from_numpy(passages)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        adapter = QueryAdapter(q.shape[1], rank=rank, normalize=normalize)
        optimizer = torch.optim.AdamW(adapter.parameters(), lr=learning_rate, weight_decay=0.0)
        for _ in range(epochs):
            for batch in torch.randperm(len(q)).split(batch_size):
                scores = torch.einsum("qd,qld->ql", adapter(q[batch]), p[rows[batch]])
                student = scores[:, :1] - scores[:, 1:]
                error = loss(student, target[batch], mask[batch]) / mask[batch].sum()
                optimizer.zero_grad(set_to_none=True)
                error.backward()
                optimizer.step()
    return adapter.eval()


def _padded(
    lists: Sequence[np.ndarray], targets: Sequence[np.ndarray]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows int64 [queries, passages], target margins and their mask [queries, passages - 1]."""
    longest = max(map(len, lists))
    rows = np.zeros((len(lists), longest), np.int64)
    margins = np.zeros((len(lists), longest - 1), np.float32)
    mask = np.zeros((len(lists), longest - 1), bool)
    for i, (passages, target) in enumerate(zip(lists, targets, strict=True)):
        rows[i, : len(passages)] = passages
        margins[i, : len(passages) - 1] = target[0] - target[1:]
        mask[i, : len(passages) - 1] = True
    return torch.from_numpy(rows), torch.from_numpy(margins), torch.from_numpy(mask)
