"""The output of an attention block as a sum over tokens: attention times values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.chain.chain import MASKED
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors, wide_dtype
from attnchain_interp.operators import float32_or_wider as _wide
from attnchain_interp.operators.tiles import rows_at_once
from attnchain_interp.reprs import with_fields

MAPS_TOGETHER: Final = 2**19  # numbers of a map's rows that are held at once in a thread's cache
_AGREES: Final = 1e-4  # of the greatest entry: rounding of float32; of narrower types, some of their steps
_STEPS: Final = 8
_PROBES: Final = 16


@final
@dataclass(frozen=True, eq=False)
class LayerNorm:
    """The layer normalisation after an addition: `weight`, `bias` (width,) and `eps` of `F.layer_norm`."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 1e-5

    def __repr__(self) -> str:
        return with_fields(self)


@final
@dataclass(frozen=True, eq=False)
class AttentionBlock:
    """The output of an attention block as a sum: Σ_j T_i(x_j) and biases.

    With v_j^h the value of token j in head h, W^h the output projection, x the block's input and δ the identity,

        T_i(x_j) = N_i(s_i ⊙ Σ_h W^h (g_i^h ⊙ A_ij^h v_j^h) + δ_ij x_i),

    where N_i is the linear part of the layer norm after the addition: subtract the mean over the width, divide by the
    standard deviation of the whole sum and multiply by the weight. Without a norm N_i is the identity. The values contain
    their own bias; the biases of the projection and of the norm belong to no token. Once the gates g and the scale s are known
    (s of a norm before the addition is one over the root mean square), the sum is linear in the values.

    Attributes:
        name: the names of the model and the layer, for messages.
        attention: A, maps (batch, head, query, key) or `Factors`, of self-attention.
        values: v (batch, head, key, dim); where `projection` is None, u = W v (batch, head, key, width).
        bias: the bias of the projection: (width,), or (batch, query, width) where it is scaled.
        attended: (batch, token, width), the output of attention that was added to the input.
        residual: x (batch, token, width).
        norm: the layer norm after the addition, or None.
        output: (batch, token, width), the block's own output: the sum, normalised where there is a norm.
        projection: W (head, dim, width).
        gate: g (batch, head, query, dim), or (…, 1) where it is one number for a head; None for none.
        scale: s (batch, query, width), or (…, 1); None for none.
    """

    name: str
    attention: Tensor | Factors
    values: Tensor
    bias: Tensor
    attended: Tensor
    residual: Tensor
    norm: LayerNorm | None
    output: Tensor
    projection: Tensor | None = None
    gate: Tensor | None = None
    scale: Tensor | None = None

    def __repr__(self) -> str:
        return with_fields(self)

    @cached_property
    def causal(self) -> bool:
        """Whether no token attends to a later one."""
        if isinstance(self.attention, Factors):
            return self.attention.causal
        return not bool(self.attention.triu(1).any())

    def pulled_back(self, aim: Tensor) -> Tensor:
        """Returns a (batch, head, query, dim) with ⟨a_i^h, v_j^h⟩ A_ij^h = ⟨aim_i, s_i ⊙ W^h (g_i^h ⊙ A_ij^h v_j^h)⟩.

        Gates and scales that are one number for a head or token are left to the maps of `rows`.

        Args:
            aim: vectors (batch, query, width).
        """
        pulled = (aim if self.scale is None or self.scale.shape[-1] == 1 else aim * self.scale)[:, None]
        if self.projection is not None:
            heads = self.projection.flatten(0, 1).mT
            pulled = (pulled[:, 0] @ heads).unflatten(-1, self.projection.shape[:2]).transpose(1, 2)
        return pulled if self.gate is None or self.gate.shape[-1] == 1 else pulled * self.gate

    def widened(self) -> AttentionBlock:
        """Returns the block with all its numbers but the attention in float32 or better."""
        tensors = {name: part for name, part in vars(self).items() if isinstance(part, Tensor) and name != "attention"}
        norm = self.norm
        if norm is not None:
            weight, bias = (None if part is None else _wide(part) for part in (norm.weight, norm.bias))
            norm = LayerNorm(weight, bias, norm.eps)
        return replace(self, norm=norm, **{name: _wide(part) for name, part in tensors.items()})

    @property
    def by_channel(self) -> bool:
        """Whether a query gates or scales each channel by a number of its own."""
        return any(part is not None and part.shape[-1] > 1 for part in (self.gate, self.scale))

    @cached_property
    def probes(self) -> Tensor:
        """Vectors (width, probe) along which the sum is checked: a few of random signs, or where needed each channel's own."""
        width = self.output.shape[-1]
        if self.by_channel or width <= _PROBES:
            return torch.eye(width, dtype=self.output.dtype, device=self.output.device)
        return torch.from_numpy(_signs(width)).to(self.output)

    @cached_property
    def probed(self) -> Tensor:
        """The values, or along the probes their projections, (batch, head, key, …), which `check_sum` wants mixed."""
        if self.by_channel:
            return self.values
        return self.values @ (self.probes if self.projection is None else self.projection @ self.probes)

    def check_sum(self, mixed: Tensor, mask: Tensor, dtype: torch.dtype) -> None:
        """Checks that the parts add up to the output.

        Args:
            mixed: `probed` (batch, head, query, …), mixed by the maps of `rows`.
            mask: (batch, token), false for padding, which is not looked at.
            dtype: in which the model computed.

        Raises:
            AttentionError: they do not.
        """
        if self.by_channel:
            mixed = mixed if self.gate is None or self.gate.shape[-1] == 1 else mixed * self.gate
            mixed = mixed if self.projection is None else mixed @ self.projection
        whole = mixed.sum(1)
        if self.scale is not None and self.scale.shape[-1] > 1:
            whole = whole * self.scale
        heads, given = whole + self.bias @ self.probes, self.attended @ self.probes
        self._compare(heads, given, mask, "what its heads give by the output projection", dtype)
        whole = self.residual + self.attended
        if self.norm is not None:
            whole = F.layer_norm(whole, whole.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
        self._compare(whole @ self.probes, self.output @ self.probes, mask, "its input and its attention", dtype)

    def _compare(self, found: Tensor, expected: Tensor, mask: Tensor, parts: str, dtype: torch.dtype) -> None:
        tolerance, greatest = max(_AGREES, _STEPS * torch.finfo(dtype).eps), expected.abs().amax(-1)[mask].max()
        away = float((found - expected).abs().amax(-1)[mask].max() / greatest.clamp_min(torch.finfo(dtype).tiny))
        if not bool(greatest.isfinite()):
            raise AttentionError(
                f"{self.name}: the output of its block holds NaN or infinity, so its contributions would too.",
                f"{MASKED} Or find the overflow.",
            )
        if not away <= tolerance:
            raise AttentionError(
                f"{self.name}: {parts} do not add up to what the model computed (off by {away:.1e} of its greatest entry, more"
                f" than {tolerance:.1e}), so it is not a sum over tokens: a function that is not linear, or weights of few"
                " bits.",
                'Read its attention alone: maps="attention".',
            )

    def rows(self, first: int = 0, stop: int | None = None, entries: int = MAPS_TOGETHER) -> Iterator[tuple[slice, Tensor]]:
        """Yields some queries after the others, and their rows of the maps (batch, head, query, key), in float32 or better.

        In causal attention the keys after the last of the queries are left out. Numbers for a whole head or token (gates and
        scales) are in the maps.

        Args:
            first, stop: the queries from `first` up to `stop`; None for the last one.
            entries: how many numbers of the maps are held at once. See `entries_at_once`.
        """
        batch, heads, n = self.values.shape[:3]
        room, stop = rows_at_once(entries, batch * n * heads, self.values.device), n if stop is None else stop
        for start in range(first, stop, room):
            rows = slice(start, min(start + room, stop))
            keys = rows.stop if self.causal else n
            if isinstance(self.attention, Factors):
                maps = (self.attention.among(slice(0, keys)) if keys < n else self.attention).maps(rows)
            else:
                maps = self.attention[:, :, rows, :keys].to(wide_dtype(self.values.dtype))
            if self.gate is not None and self.gate.shape[-1] == 1:
                maps = maps * self.gate[:, :, rows]
            if self.scale is not None and self.scale.shape[-1] == 1:
                maps = maps * self.scale[:, None, rows]
            yield rows, maps


@cache
def _signs(width: int) -> NDArray[np.float32]:
    """Random signs (width, probe), the same at every call."""
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (width, _PROBES))
