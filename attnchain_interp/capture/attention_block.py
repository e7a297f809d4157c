"""The contribution of each token to the output of an attention block at each token: attention times values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, final, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors
from attnchain_interp.operators import float32_or_wider as _wide
from attnchain_interp.reprs import with_fields

Measure = Literal["norm", "norm-res", "norm-resln", "alti"]

_TOGETHER: Final = 2**21  # numbers that are held at once for some queries: few enough for a cache
_AGREES: Final = 1e-4  # of the greatest entry: rounding of float32; of narrower types, some of their steps
_STEPS: Final = 8


def check_measure(measure: str) -> None:
    """Refuses an unknown measure."""
    check_one_of("measure", measure, get_args(Measure))


@final
@dataclass(frozen=True)
class LayerNorm:
    """The layer normalisation after an addition: `weight`, `bias` (width,) and `eps` of `F.layer_norm`."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 1e-5

    def __repr__(self) -> str:
        return with_fields(self)


@final
@dataclass(frozen=True)
class AttentionBlock:
    """The output of an attention block as a sum: Σ_j T_i(x_j) and biases.

    With u_j^h the value of token j in head h after the output projection, x the block's input and δ the identity,

        T_i(x_j) = N_i(Σ_h A_ij^h u_j^h + δ_ij x_i),

    where N_i is the linear part of the layer norm after the addition: subtract the mean over the width, divide by the
    standard deviation of the whole sum and multiply by the weight. Without a norm N_i is the identity. The values contain
    their own bias; the biases of the projection and of the norm belong to no token.

    Attributes:
        name: the names of the model and the layer, for messages.
        attention: A, maps (batch, head, query, key) or `Factors`, of self-attention.
        values: u (batch, head, key, width).
        bias: (width,), the bias of the projection.
        attended: (batch, token, width), the output of attention that was added to the input.
        residual: x (batch, token, width).
        norm: the layer norm after the addition, or None.
        output: (batch, token, width), the block's own output: the sum, normalised where there is a norm.
    """

    name: str
    attention: Tensor | Factors
    values: Tensor
    bias: Tensor
    attended: Tensor
    residual: Tensor
    norm: LayerNorm | None
    output: Tensor

    def __repr__(self) -> str:
        return with_fields(self)

    def contributions(self, measure: Measure, mask: Tensor) -> Tensor:
        """Returns the share (batch, 1, query, key) of each token in the output at each token. Rows sum to one.

        Only some rows of n × n × width numbers are held at a time.

        Args:
            measure: See `capture_contributions`.
            mask: (batch, token), false for padding, whose rows are zero.

        Raises:
            AttentionError: the parts do not add up to the output, or no token contributes to the output of a token.
        """
        mask = mask.to(self.values.device)
        self._check_sum(mask)
        amounts = self._removals() if measure == "alti" else self._norms(measure)
        amounts = torch.where(mask[..., None], amounts, 0)
        total = amounts.sum(-1, keepdim=True)
        if bool((total[mask] <= 0).any()):
            raise AttentionError(
                f"{self.name}: {int((total[mask] <= 0).sum())} tokens have outputs to which none contributes by"
                f" measure={measure!r} (none is nearer to them than zero is), so there are no shares.",
                "Choose another measure.",
            )
        return (amounts / torch.where(total > 0, total, 1))[:, None].contiguous()

    def _check_sum(self, mask: Tensor) -> None:
        values = _wide(self.values).flatten(1, 2)  # (batch, head and key, width)
        mixed = torch.cat([maps.transpose(1, 2).flatten(2) @ values for _, maps in self._rows(1)], 1)
        whole = _wide(self.residual) + _wide(self.attended)
        if self.norm is not None:
            weight, bias = (None if one is None else _wide(one) for one in (self.norm.weight, self.norm.bias))
            whole = F.layer_norm(whole, whole.shape[-1:], weight, bias, self.norm.eps)
        self._compare(mixed + _wide(self.bias), self.attended, mask, "what its heads give by the output projection")
        self._compare(whole, self.output, mask, "its input and its attention")

    def _compare(self, found: Tensor, expected: Tensor, mask: Tensor, parts: str) -> None:
        expected, tolerance = expected[mask], max(_AGREES, _STEPS * torch.finfo(expected.dtype).eps)
        away = float((found[mask] - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))
        if not away <= tolerance:
            raise AttentionError(
                f"{self.name}: {parts} do not add up to what the model computed (off by {away:.1e} of its greatest entry, more"
                f" than {tolerance:.1e}), so it is not a sum over tokens: a gate, a"
                " normalisation before the addition, or weights of few bits.",
                "Capture its attention alone: capture(model, …).",
            )

    def _norms(self, measure: Measure) -> Tensor:
        """‖T_i(x_j)‖₂ (batch, query, key), but for the division by the standard deviation, which a row has in common.

        ‖Σ_h a_h u_j^h‖ = ‖R_j a‖ with R_j of the QR decomposition of (u_j^h)_h: of heads × heads numbers, not heads × width.
        """
        linear = self._linear if measure == "norm-resln" else _wide
        values = linear(self.values)
        triangles = torch.linalg.qr(values.permute(0, 2, 3, 1), mode="r")[1]  # (batch, key, at most head, head)
        norms = torch.cat([_by_key(maps, triangles.mT).norm(dim=-1) for _, maps in self._rows(triangles.shape[-2])], -1).mT
        if measure == "norm":
            return norms
        own = torch.cat([maps.diagonal(rows.start, -2, -1) for rows, maps in self._rows(1)], -1)  # (batch, head, token)
        itself = (own[..., None] * values).sum(1) + linear(self.residual)
        return norms.diagonal_scatter(itself.norm(dim=-1), dim1=-2, dim2=-1)

    def _removals(self) -> Tensor:
        """max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁) (batch, query, key), y the output."""
        values, residual, output = self._linear(self.values).transpose(1, 2), self._linear(self.residual), _wide(self.output)
        if self.norm is not None:
            whole = _wide(self.residual) + _wide(self.attended)
            deviation = (whole.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
        else:
            deviation = torch.ones_like(output[..., :1])
        residual, left = residual / deviation, []
        for rows, maps in self._rows(values.shape[-1]):
            maps = maps / deviation[:, None, rows]
            each = _by_key(maps, values)  # (batch, key, query, width)
            each.diagonal(-rows.start, 1, 2).add_(residual[:, rows].mT)
            left.append(each.sub_(output[:, None, rows]).abs_().sum(-1))
        return (output.abs().sum(-1, keepdim=True) - torch.cat(left, -1).mT).relu()

    def _linear(self, vectors: Tensor) -> Tensor:
        """The layer norm of a summand, before the division by the standard deviation of the sum."""
        vectors = _wide(vectors)
        if self.norm is None:
            return vectors
        centred = vectors - vectors.mean(-1, keepdim=True)
        return centred if self.norm.weight is None else centred * _wide(self.norm.weight)

    def _rows(self, width: int) -> Iterator[tuple[slice, Tensor]]:
        """Some queries after the others, and their rows of the maps (batch, head, query, key), in float32 or better.

        So many that heads, or `width`, numbers for each query and key fit in.
        """
        batch, heads, n = self.values.shape[:3]
        room = max(1, _TOGETHER // (batch * n * max(width, heads)))
        for start in range(0, n, room):
            rows = slice(start, min(start + room, n))
            yield rows, self.attention.maps(rows) if isinstance(self.attention, Factors) else _wide(self.attention[:, :, rows])


def _by_key(maps: Tensor, vectors: Tensor) -> Tensor:
    """Σ_h A_ij^h u_j^h (batch, key, query, …) of maps (batch, head, query, key) and vectors (batch, key, head, …)."""
    return maps.permute(0, 3, 2, 1) @ vectors
