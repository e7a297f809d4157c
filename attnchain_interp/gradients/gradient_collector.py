"""Collects maps and gradients from one forward and one backward, in which the model computes as it would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch._C import DisableTorchFunction

from attnchain_interp.capture import Expected, Shown, StoreCollector
from attnchain_interp.capture.store_collector import MAX_BYTES
from attnchain_interp.checks import check_whole_number
from attnchain_interp.gradients.differentiable_maps import check_reached, derivatives
from attnchain_interp.operators import float32_or_wider, full_precision
from attnchain_interp.operators.factors import products_of_groups
from attnchain_interp.reprs import with_fields
from attnchain_interp.store import AttentionStore


@final
class GradientCollector:
    """Keeps the maps of each layer or their queries and keys, and the gradient of a score by each map in factors.

    It is an `OutputCollector`. Fused attention stays fused, forward and backward. The backward gives the gradient ∇O by the
    mixed values, and that by the map follows: ∇A = ∇O Vᵀ.
    """

    def __init__(self, keep: Literal["auto", "maps", "factors"] = "auto", max_bytes: int = MAX_BYTES) -> None:
        check_whole_number("max_bytes", max_bytes, "the greatest size of all maps in bytes", 0)
        self._store = StoreCollector(keep, max_bytes // 2)  # the other half is for the gradients
        self._outputs: dict[str, tuple[Tensor, Tensor, Callable[[Tensor], Any]]] = {}
        self._keep = keep
        self._shapes: dict[str, torch.Size] = {}

    def __repr__(self) -> str:
        return f"GradientCollector({self._store!r})"

    def expect(self, expected: Expected) -> None:
        """Decides between maps and factors. Maps of attention that is not fused are there anyway. See `Collector.expect`."""
        if self._keep == "auto" and not expected.fused:
            self._store = StoreCollector("maps")
        self._store.expect(expected)

    def take(self, name: str, shown: Shown) -> None:
        """Keeps the attention of one layer. See `Collector.take`."""
        self._store.take(name, shown)
        self._shapes[name] = shown.attention.shape

    def take_output(self, name: str, values: Tensor, output: Callable[[Tensor], Any], result: Any) -> Any:
        """Remembers the output, by which the backward differentiates. See `OutputCollector.take_output`."""
        first = result if isinstance(result, Tensor) else result[0]
        mixed = first if first.requires_grad else first.detach().requires_grad_()  # gradients flow where nothing else does
        self._outputs[name] = mixed, values.detach(), output
        passed = mixed.clone()  # the model may change it in place
        return passed if isinstance(result, Tensor) else (passed, *result[1:])

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> AttentionStore:
        """Returns the store. See `Collector.result`."""
        return self._store.result(names, metadata)

    @full_precision()
    def gradients_of(
        self, score: Tensor, names: Sequence[str], tokens: tuple[Tensor, int] | None = None
    ) -> list[FactoredGradient]:
        """Returns the gradients of the sum of `score` with respect to the maps of these layers, by one backward.

        Args:
            score: (batch,); or (score, 1), several of one example. Their gradients are a batch.
            names: of the layers.
            tokens: of which several scores depend. See `SeveralScores`.

        Raises:
            AttentionError: as `derivatives` and `check_reached`.
        """
        found = derivatives(score, [self._outputs[name][0] for name in names], tokens)
        reached = {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}
        check_reached(names, reached)
        return [self._in_factors(name, gradient, score.ndim > 1) for name, gradient in reached.items()]

    def _in_factors(self, name: str, gradient: Tensor, several: bool) -> FactoredGradient:
        _, values, output = self._outputs[name]
        with DisableTorchFunction(), torch.enable_grad():
            mixed = values.new_zeros((*self._shapes[name][:3], values.shape[-1]), requires_grad=True)
            made = output(mixed)
            first = made if isinstance(made, Tensor) else made[0]
            (by_heads,) = torch.autograd.grad(first, mixed, gradient, is_grads_batched=several)
        return FactoredGradient(by_heads[:, 0] if several else by_heads, values)


@final
@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """The gradient ∇A = ∇O Vᵀ of a score by a map A that mixes values V into O = A V, without a tensor of the size of the map.

    Attributes:
        outputs: ∇O (batch, head, query, dim), the gradient by the mixed values.
        values: V (batch, key head, key, dim). Each key head serves head / key head heads.
    """

    outputs: Tensor
    values: Tensor

    def __repr__(self) -> str:
        return with_fields(self)

    @full_precision()
    def maps(self, queries: slice = slice(None), keys: slice = slice(None)) -> Tensor:
        """Returns ∇A (batch, head, query, key) of some queries and keys, in float32 or wider."""
        outputs, values = float32_or_wider(self.outputs[:, :, queries]), float32_or_wider(self.values[:, :, keys])
        return products_of_groups(outputs, values)
