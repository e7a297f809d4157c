"""The contribution of each token to the output of an attention block at each token, by several measures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final, Literal, final, get_args

import torch
from torch import Tensor

from attnchain_interp.capture.attention_block import MAPS_TOGETHER, AttentionBlock
from attnchain_interp.checks import check_one_of
from attnchain_interp.operators import Factors
from attnchain_interp.operators.exact_products import exact_products
from attnchain_interp.operators.tiles import entries_at_once
from attnchain_interp.reprs import counted

Measure = Literal["norm", "norm-res", "norm-resln", "projection", "alti"]
Sizes = Callable[[slice, Tensor], Tensor]  # some queries and their maps (batch, head, query, key) → (batch, query, key)

_TOGETHER: Final = 2**18  # numbers of vectors that are held at once in a thread's cache


def check_measure(measure: str) -> None:
    """Refuses an unknown measure."""
    check_one_of("measure", measure, get_args(Measure))


def holds_input(maps: str) -> bool:
    """Returns whether maps count the block's input, the residual connection, as a part of its output."""
    return maps in get_args(Measure) and maps != "norm"


def contributions_of(block: AttentionBlock, measure: Measure, mask: Tensor) -> Tensor:
    """Returns the share (batch, 1, query, key) of each token in a block's output at each token. Rows sum to one.

    Only some rows of the map, and some vectors of the model's width, are held at a time. The row of a token to whose output
    no token contributes is its attention (the mean over heads), and a warning says so. A row depends on its example alone.

    Args:
        block: the block.
        measure: the size of a contribution. With the vectors T_i(x_j) of `AttentionBlock` and the output y_i,
            "norm": ‖Σ_h A_ij^h u_j^h‖₂ of attention alone, without the block's input;
            "norm-res": ‖·‖₂ with the input;
            "norm-resln": ‖T_i(x_j)‖₂ with the input and the layer norm after the addition, where there is one;
            "projection": max(0, ⟨T_i(x_j), y_i⟩), along the output, biases included;
            "alti": max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), by how much the output is nearer to T_i(x_j) than to zero.
        mask: (batch, token), false for padding, whose rows are zero.

    Raises:
        AttentionError: the parts do not add up to the output.

    Source: Kobayashi et al., *Attention is Not Only a Weight*, EMNLP 2020 ("norm"), and *Incorporating Residual and
    Normalization Layers into Analysis of Masked Language Models*, EMNLP 2021 (the other norms); Ferrando, Gállego &
    Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP 2022 ("alti"); Cunningham & Muça
    Cirone, *Contribution Weights: A Geometrical Analysis of Self-Attention Transformers*, 2026, arXiv 2606.07604
    ("projection").
    """
    mask, wide, n = mask.to(block.values.device), block.widened(), block.values.shape[2]
    sizes, entries = sizes_of(wide, measure), MAPS_TOGETHER
    if measure == "projection":  # it reads the maps head by head; causal rows see the fewer keys, the fewer are held
        entries = MAPS_TOGETHER // 2 if wide.causal else 2 * MAPS_TOGETHER
    mixed, shares = [], wide.output.new_zeros(len(mask), n, n)
    for rows, maps in wide.rows(entries=entries):
        mixed.append(maps @ wide.probed[:, :, : maps.shape[-1]])
        shares[:, rows, : maps.shape[-1]] = sizes(rows, maps)
    computed = map(exact_products.rounded, (block.values, block.attended, block.output))  # they differ under autocast
    wide.check_sum(torch.cat(mixed, 2), mask, max(computed, key=lambda dtype: torch.finfo(dtype).eps))
    if not bool(mask.all()):
        shares.masked_fill_(~mask[..., None], 0)
    total = shares.sum(-1, keepdim=True)
    lacking = (total <= 0)[..., 0] & mask
    if bool(lacking.any()):
        warnings.warn(
            f"{block.name}: no token contributes to the output of {counted(int(lacking.sum()), 'token')} by {measure!r}. Rows"
            " of attention stand in.",
            stacklevel=2,
        )
        for query in lacking.any(0).nonzero()[:, 0].tolist():
            row, attention = slice(query, query + 1), block.attention
            maps = attention.maps(row) if isinstance(attention, Factors) else attention[:, :, row]
            shares[:, row] = torch.where(lacking[:, row, None], maps.mean(1).to(shares), shares[:, row])
        total = shares.sum(-1, keepdim=True)
    return shares.div_(torch.where(total > 0, total, 1))[:, None]


def sizes_of(block: AttentionBlock, measure: Measure) -> Sizes:
    """Returns the function that measures the summands of a block, whose numbers are in float32 or better.

    A row of sizes may have a factor that all of its sizes share.
    """
    match measure:
        case "projection":
            return _projections(block)
        case "alti":
            return _removals(block)
        case _:
            return _norms(block, with_input=holds_input(measure), normalised=measure == "norm-resln")


def _projections(block: AttentionBlock) -> Sizes:
    """max(0, ⟨T_i(x_j), y_i⟩), y the output: the map times ⟨v_j^h, a_i^h⟩, where a is y pulled back to the heads' values."""
    aim = block.output
    if block.norm is not None:
        aim = aim if block.norm.weight is None else aim * block.norm.weight
        aim = aim - aim.mean(-1, keepdim=True)
    itself = (block.residual * aim).sum(-1)
    pulled = block.pulled_back(aim).expand(-1, block.values.shape[1], -1, -1)

    def sizes(rows: slice, maps: Tensor) -> Tensor:
        found = torch.zeros_like(maps[:, 0])
        for head, own in enumerate(maps.unbind(1)):  # one at a time fits into a cache
            found.addcmul_(pulled[:, head, rows] @ block.values[:, head, : maps.shape[-1]].mT, own)
        found.diagonal(rows.start, -2, -1).add_(itself[:, rows])
        return found.relu_()

    return sizes


def _norms(block: AttentionBlock, with_input: bool, normalised: bool) -> Sizes:
    """‖T_i(x_j)‖₂, but for the division by the standard deviation, which a row has in common.

    ‖Σ_h a_h u_j^h‖² = aᵀ G_j a with the Gram matrix G_j of (u_j^h)_h: of heads × heads numbers, not heads × width.
    """
    summands = _Summands(block, normalised)
    vectors, residual = summands.vectors, summands.residual if with_input else None
    if vectors is None:
        return lambda rows, maps: summands.measured(rows, maps, residual, lambda each, _: each.norm(dim=-1))
    gram = (vectors @ vectors.mT).permute(2, 3, 0, 1).contiguous()[..., None, :]  # (head, head, batch, 1, key)

    def sizes(rows: slice, maps: Tensor) -> Tensor:
        found = torch.zeros_like(maps[:, 0])
        for head, own in enumerate(maps.unbind(1)):
            inner = own * gram[head, head, ..., : maps.shape[-1]]
            for other in range(head):
                inner.addcmul_(maps[:, other], gram[head, other, ..., : maps.shape[-1]], value=2)
            found.addcmul_(inner, own)
        found.relu_().sqrt_()
        if residual is not None:
            itself = maps.diagonal(rows.start, -2, -1).mT[:, :, None]  # (batch, query, 1, head)
            whole = (itself @ vectors[:, rows])[:, :, 0] + residual[:, rows]
            found.diagonal(rows.start, -2, -1).copy_(whole.norm(dim=-1))
        return found

    return sizes


def _removals(block: AttentionBlock) -> Sizes:
    """max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), y the output."""
    summands, whole = _Summands(block, True), block.output.abs().sum(-1, keepdim=True)
    residual, output = summands.residual, block.output[:, None]
    deviation = None
    if block.norm is not None:
        deviation = ((block.residual + block.attended).var(-1, correction=0, keepdim=True) + block.norm.eps).sqrt()
        residual = residual / deviation

    def away(each: Tensor, queries: slice) -> Tensor:
        return each.sub_(output[:, :, queries]).abs_().sum(-1)

    def sizes(rows: slice, maps: Tensor) -> Tensor:
        if deviation is not None:
            maps = maps / deviation[:, None, rows]
        return (whole[:, rows] - summands.measured(rows, maps, residual, away)).relu_()

    return sizes


@final
class _Summands:
    """T_i(x_j) (width,), but for the division by the standard deviation: of all keys and queries, a few at a time.

    Attributes:
        residual: the part of the input (batch, query, width), at j = i.
        vectors: u (batch, key, head, width), whose sums over heads, weighted by the map, are the rest; None where a query
            gates or scales each channel by another number.
    """

    def __init__(self, block: AttentionBlock, normalised: bool) -> None:
        self._block, self._norm = block, block.norm if normalised else None
        self.residual, self.vectors = self._linear(block.residual), None
        if not block.by_channel:
            projected = block.values if block.projection is None else block.values @ block.projection
            self.vectors = self._linear(projected.transpose(1, 2).contiguous())  # read key by key

    def measured(self, rows: slice, maps: Tensor, residual: Tensor | None, size: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """Returns the size (batch, query, key) of T_i(x_j), by `size` of vectors (batch, key, query, width) of some queries.

        A token that a query does not see has the size of zero.
        """
        by_key, causal = maps.permute(0, 3, 2, 1).contiguous(), self._block.causal
        found = size(torch.zeros_like(self.residual[:, None, rows]), rows).repeat(1, maps.shape[-1], 1)  # (batch, key, query)
        one = maps.shape[0] * maps.shape[2] * self.residual.shape[-1]
        room = max(1, entries_at_once(_TOGETHER, maps.device) // one)
        for first in range(0, maps.shape[-1], room):
            keys = slice(first, min(first + room, maps.shape[-1]))
            queries = slice(max(rows.start, first), rows.stop) if causal else rows
            some = slice(queries.start - rows.start, None)
            each = self._summed(by_key[:, keys, some], keys, queries)
            low, high = max(keys.start, queries.start), min(keys.stop, queries.stop)
            if residual is not None and low < high:
                each.diagonal(keys.start - queries.start, 1, 2).add_(residual[:, low:high].mT)
            found[:, keys, some] = size(each, queries)
            del each  # the next ones take its place in the cache
        return found.mT

    def _summed(self, by_key: Tensor, keys: slice, queries: slice) -> Tensor:
        """The summands (batch, key, query, width) without the input, of a part of the maps (batch, key, query, head)."""
        block = self._block
        if self.vectors is not None:
            found = torch.bmm(by_key.flatten(0, 1), self.vectors[:, keys].flatten(0, 1))
            return found.view(*by_key.shape[:-1], -1)
        parts = by_key[..., None] * block.values[:, :, keys].transpose(1, 2)[:, :, None]  # (batch, key, query, head, dim)
        if block.gate is not None and block.gate.shape[-1] > 1:
            parts = parts * block.gate[:, :, queries].transpose(1, 2)[:, None]
        parts = parts.sum(-2) if block.projection is None else parts.flatten(-2) @ block.projection.flatten(0, 1)
        if block.scale is not None and block.scale.shape[-1] > 1:
            parts = parts * block.scale[:, None, queries]
        return self._linear(parts)

    def _linear(self, vectors: Tensor) -> Tensor:
        """The layer norm of a summand, before the division by the standard deviation of the sum."""
        if self._norm is None:
            return vectors
        centred = vectors - vectors.mean(-1, keepdim=True)
        return centred if self._norm.weight is None else centred * self._norm.weight
