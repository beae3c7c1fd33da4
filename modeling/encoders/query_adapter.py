"""A low-rank query adapter, trained in seconds while the passages' vectors stay fixed.

It is a student of its own (`AdaptedEncoder`), and the test bench for targets (`adapter_trial`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: A loss of `training.losses`: (student, target, mask) -> scalar.
_MarginLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Epochs over an adapter's training queries.
EPOCHS = 20


class QueryAdapter(nn.Module):
    """q + (q A) B, normalised if the student's vectors are. B is zero at first.

    Training therefore starts from the student's own queries.
    """

    def __init__(self, dimension: int, *, rank: int = 64, normalize: bool = True) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(dimension, rank) / dimension**0.5)
        self.up = nn.Parameter(torch.zeros(rank, dimension))
        self.normalize = normalize

    def forward(self, queries: Tensor) -> Tensor:
        """Adapt float32 [queries, dimension]; the same shape."""
        # Autocast would multiply in half precision, which small changes would be lost in.
        with torch.autocast(queries.device.type, enabled=False):
            moved = queries + queries @ self.down @ self.up
            return F.normalize(moved, dim=-1) if self.normalize else moved

    def apply_to(self, queries: np.ndarray) -> np.ndarray:
        """Adapt an array of queries, float32 [queries, dimension]."""
        with torch.inference_mode():
            found = self(torch.from_numpy(queries).to(self.down.device))
            return np.asarray(found.cpu().numpy())

    def matrix(self) -> np.ndarray:
        """Return I + AB, float32 [dimension, dimension], to multiply a query's row with."""
        with torch.inference_mode():
            down, up = self.down.double(), self.up.double()
            return np.asarray((torch.eye(len(down)).to(down) + down @ up).float().cpu().numpy())


def train_adapter(
    queries: np.ndarray,
    passages: np.ndarray,
    lists: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    loss: _MarginLoss,
    *,
    normalize: bool,
    rank: int = 64,
    epochs: int = EPOCHS,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 13,
) -> QueryAdapter:
    """Train an adapter on the margins of each query's list, whose first passage is the positive.

    `queries` and `passages` are float32 [n, dimension]; `lists` has each query's rows of
    `passages`, and `targets` their target scores. Equal arguments give equal weights, and the
    caller's random state is unchanged. The optimizer is AdamW.
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
    """Pad: rows int64 [queries, passages], target margins and mask [queries, passages - 1]."""
    longest = max(map(len, lists))
    rows = np.zeros((len(lists), longest), np.int64)
    margins = np.zeros((len(lists), longest - 1), np.float32)
    mask = np.zeros((len(lists), longest - 1), bool)
    for i, (passages, target) in enumerate(zip(lists, targets, strict=True)):
        rows[i, : len(passages)] = passages
        margins[i, : len(passages) - 1] = target[0] - target[1:]
        mask[i, : len(passages) - 1] = True
    return torch.from_numpy(rows), torch.from_numpy(margins), torch.from_numpy(mask)
