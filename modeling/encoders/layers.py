"""The layers between pooling and the vector: Dense, LayerNorm and Normalize, in any order."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LayerKind = Literal["Dense", "LayerNorm", "Normalize"]
IDENTITY = "Identity"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, without its weights; `activation` is the name of a class of torch.nn."""

    kind: LayerKind
    activation: str = IDENTITY
    residual: bool = False


def activation_named(name: str) -> str | None:
    """Return the class of torch.nn that a dotted name means; None for any other.

    Only activations that have no weights and no required arguments.
    """
    package, _, short = name.rpartition(".")
    found = getattr(nn, short, None)
    if not (package == "torch.nn" or package.startswith("torch.nn.modules.")):
        return None
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        return None
    known = found is nn.Identity or found.__module__ == nn.Tanh.__module__
    return short if known and _needs_nothing(found) else None


def _needs_nothing(kind: type[nn.Module]) -> bool:
    try:
        made = kind()
    except TypeError:
        return False
    return not list(made.parameters())


def activation_path(name: str) -> str:
    """Return the dotted name of an activation that sentence-transformers writes."""
    kind = getattr(nn, name)
    return f"{kind.__module__}.{kind.__qualname__}"


class Layers(nn.Module):
    """Layers with their weights, float32; vectors [texts, in] -> vectors [texts, out]."""

    def __init__(self, layers: Sequence[Layer], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.specs = tuple(layers)
        self.steps = nn.ModuleList(modules)

    @classmethod
    def of(cls, layers: Sequence[Layer], weights: Sequence[Mapping[str, Tensor]]) -> Layers:
        """Make the layers of their tensors, as sentence-transformers names these."""
        return cls(layers, [_module(*pair) for pair in zip(layers, weights, strict=True)])

    def forward(self, vectors: Tensor) -> Tensor:
        """Apply all layers; in float32, where autocast would multiply in half precision."""
        with torch.autocast(vectors.device.type, enabled=False):
            for step in self.steps:
                vectors = step(vectors)
        return vectors

    def widths(self) -> list[tuple[int, int] | None]:
        """Input and output dimensions of each layer; None where a layer takes any."""
        return [step.widths if isinstance(step, Dense | Norm) else None for step in self.steps]

    def weights(self) -> list[dict[str, Tensor]]:
        """Every layer's tensors by sentence-transformers' names, on the CPU."""
        return [
            {name: value.detach().float().cpu().contiguous() for name, value in each.items()}
            for each in (step.state_dict() for step in self.steps)
        ]

    def with_dense(self, weight: Tensor, bias: Tensor | None, *, unit: bool) -> Layers:
        """The same layers, then a Dense; vectors get unit length before it if `unit`."""
        named = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
        specs = [*([Layer("Normalize")] if unit else []), Layer("Dense")]
        added = Layers.of(specs, [*([{}] if unit else []), named])
        return Layers((*self.specs, *added.specs), [*self.steps, *added.steps])


class Dense(nn.Module):
    """A linear layer, its activation, and its input added again if `residual`."""

    def __init__(self, spec: Layer, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.linear = linear(weights["linear.weight"], weights.get("linear.bias"))
        self.activation: nn.Module = getattr(nn, spec.activation)()
        self.is_residual = spec.residual
        self.residual: nn.Module | None = None
        if "residual.weight" in weights:
            self.residual = linear(weights["residual.weight"], None)

    @property
    def widths(self) -> tuple[int, int]:
        """Input and output dimensions."""
        return self.linear.in_features, self.linear.out_features

    def forward(self, vectors: Tensor) -> Tensor:
        """[texts, in] -> [texts, out]."""
        out: Tensor = self.activation(self.linear(vectors))
        if not self.is_residual:
            return out
        return out + (vectors if self.residual is None else self.residual(vectors))


class Norm(nn.Module):
    """A LayerNorm."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(len(weights["norm.weight"]))
        self.norm.load_state_dict({name: weights[f"norm.{name}"] for name in ("weight", "bias")})

    @property
    def widths(self) -> tuple[int, int]:
        """Input and output dimensions."""
        return self.norm.normalized_shape[0], self.norm.normalized_shape[0]

    def forward(self, vectors: Tensor) -> Tensor:
        """[texts, dimension] -> the same shape."""
        normed: Tensor = self.norm(vectors)
        return normed


class Unit(nn.Module):
    """Gives vectors unit length."""

    def forward(self, vectors: Tensor) -> Tensor:
        """[texts, dimension] -> the same shape."""
        return F.normalize(vectors, dim=-1)


def _module(layer: Layer, weights: Mapping[str, Tensor]) -> nn.Module:
    if layer.kind == "Dense":
        return Dense(layer, weights)
    return Norm(weights) if layer.kind == "LayerNorm" else Unit()


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A float32 linear layer with copies of `weight` [out, in] and `bias` [out]."""
    # Without initialisation, which would advance torch's random state.
    layer: nn.Linear = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None
    )
    named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer.load_state_dict(named)
    return layer
