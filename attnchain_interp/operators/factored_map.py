"""Products with an attention map that is never built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.composed import Remembering
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.fused_attention import Route, fused_route
from attnchain_interp.operators.operator import full_precision, wide_dtype

_TILE: Final = 2**22  # map entries that are built at once where no fused kernel serves
_ROWS: Final = 1024  # of a mask that are looked at together
_MASKED: Final = -1e5  # a logit whose exponential is zero, and finite, unlike −∞ times anything
_HIDING: Final = -9e3  # the probability of a token whose logit loses so much is zero, in float64 too
_LOST: Final = 1e-5  # share of the mass that a fused product may miss before tiles take over


@final
class FactoredMap(Remembering):
    """The map A of `Factors` as an operator: (batch, head, token, token), in memory linear in the number of tokens.

    A step v ↦ vA is attention with the roles of queries and keys swapped. With L the log-sum-exp of a query's logits,
    (vA)_j = Σ_i v_i exp(q_i·k_j − L_i). Queries [k, 1] and keys [q, −L] attend over i; their output times its own
    exponentiated log-sum-exp is the step. Causal attention is causal again in reverse order of the tokens. A mask of keys
    (padding) is one more feature. Tiles of the map are built one after another where no fused kernel serves (soft-caps,
    masks that differ by query, gradients) or its rounding would lose mass (logits above 300 in float32).
    """

    @full_precision()
    def __init__(self, factors: Factors) -> None:
        if factors.shape[-1] != factors.shape[-2]:
            raise AttentionError(
                f"query and key are of {factors.shape[-2]} and {factors.shape[-1]} tokens; a chain needs the same tokens.",
                "Use factors.maps() for cross-attention, and capture without a cache of earlier keys.",
            )
        self._factors = factors
        self._rows = self._columns = slice(0, factors.shape[-1])
        self.shape = factors.shape
        self.dtype = wide_dtype(factors.query.dtype)
        self.device = factors.query.device
        mask = factors.mask_of_four
        plain = factors.softcap is None and (mask is None or mask.shape[2] == 1) and not self.requires_grad
        self._route = fused_route(self.device.type, self.dtype) if plain else None
        own = self._log_sum_exp()
        self._empty = own == -torch.inf  # every key masked: a row of zeros
        own = own.masked_fill(self._empty, 0)
        if not bool(own.isfinite().all()):
            raise AttentionError("the logits of a row overflow: a query times a key is infinite.", "Rescale the factors.")
        sinks = torch.full_like(own[:1, :, :1], -torch.inf) if factors.sinks is None else factors.sinks.to(own)[:, None]
        self._log_norm = torch.logaddexp(own, sinks.expand_as(own))
        self._mass = torch.sigmoid(own - sinks).masked_fill(self._empty, 0)
        if float(self._log_norm.detach().abs().amax()) * torch.finfo(self.dtype).eps > 4 * _LOST:  # 4: measured
            self._route = None

    @property
    def requires_grad(self) -> bool:
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self._factors.tensors.values())

    def _loses(self, v: Tensor, out: Tensor) -> bool:
        """Returns whether the fused product `out` of v with all columns has less or more mass than it should."""
        missing = (out.sum(-1) - (v * self._mass[..., None, :]).sum(-1)).abs()
        return not bool((missing <= _LOST * v.abs().sum(-1)).all())

    def part(self, rows: slice, columns: slice) -> FactoredMap:
        found = copy(self)
        found._rows, found._columns = _within(self._rows, rows), _within(self._columns, columns)
        found._empty, found._log_norm, found._mass = (t[..., rows] for t in (self._empty, self._log_norm, self._mass))
        found.shape = torch.Size([*self.shape[:2], _length(found._rows), _length(found._columns)])
        return found

    def dense(self) -> Tensor:
        rows, columns = self._rows, self._columns
        whole = _length(columns) == self._factors.shape[-1]
        hidden = max(0, columns.stop - max(rows.stop, columns.start)) if self._factors.causal else 0
        seen = slice(columns.start, columns.stop - hidden)
        logits = self._factors.logits(rows, seen)
        # a whole row by softmax: it sums to what it should, however large the logits
        in_place = None if torch.is_grad_enabled() else logits
        dense = torch.softmax(logits, -1, out=in_place) if whole else (logits - self._log_norm[..., None]).exp_()
        if whole and self._factors.sinks is not None:
            dense = dense * self._mass[..., None]
        dense = dense.masked_fill(self._empty[..., None], 0) if bool(self._empty.any()) else dense
        return F.pad(dense, (0, hidden)) if hidden else dense

    @full_precision()
    def left(self, v: Tensor) -> Tensor:
        v = v.masked_fill(self._empty[..., None, :], 0)
        route = self._route_for(v)
        if route is not None:
            out = torch.cat([self._fused_left(part, route) for part in v.split(self._factors.query.shape[-1], -2)], -2)
            if _length(self._columns) < self._factors.shape[-1] or not self._loses(v, out):
                return out
        total = v.new_zeros(*v.shape[:-1], self.shape[-1])
        for tile in self._tiled(lambda a, b: v[..., a:b] @ self.rows(a, b)):
            total = total + tile
        return total

    @full_precision()
    def right(self, x: Tensor) -> Tensor:
        route = self._route_for(x)
        if route is not None:
            return torch.cat([self._fused_right(part, route) for part in x.split(self._factors.query.shape[-1], -2)], -2)
        return torch.cat(list(self._tiled(lambda a, b: x @ self.rows(a, b).mT)), -1)

    def sent_to(self, states: Tensor) -> Tensor:
        whole = _length(self._columns) == self._factors.shape[-1] and bool(states.all())
        return self._mass if whole else super().sent_to(states)

    def diagonal(self) -> Tensor:
        """Returns the entries M_ii (batch, head, token) of the map, or of a square part on its diagonal."""
        return torch.cat([self._diagonal_tile(a) for a in range(self._rows.start, self._rows.stop, 64)], -1)

    def _diagonal_tile(self, start: int) -> Tensor:
        tile = slice(start, min(start + 64, self._rows.stop))
        logits = self._factors.logits(tile, tile).diagonal(dim1=-2, dim2=-1)
        local = slice(tile.start - self._rows.start, tile.stop - self._rows.start)
        return (logits - self._log_norm[..., local]).exp()

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        return triangular(self._factors, among, upper)

    @property
    def _masked(self) -> bool | None:
        """Says whether fused attention over this part is causal. None: the diagonal cuts the part, and no kernel serves it."""
        if not self._factors.causal or self._columns.stop <= self._rows.start + 1:
            return False
        return True if self._rows == self._columns else None

    def _route_for(self, v: Tensor) -> Route | None:
        """Returns the fused route of this part's products with these vectors; None where it does not serve."""
        return None if self._masked is None or (torch.is_grad_enabled() and v.requires_grad) else self._route

    def _fused_left(self, v: Tensor, route: Route) -> Tensor:
        query, key = self._features()
        queries = F.pad(key, (0, 1), value=1.0)
        keys = torch.cat([query, -self._log_norm[..., None]], -1)
        values = F.pad(v.mT, (0, queries.shape[-1] - v.shape[-2]))
        if self._masked:
            out, reached = route(queries.flip(2), keys.flip(2), values.flip(2), True)
            out, reached = out.flip(2), reached.flip(2)
        else:
            out, reached = route(queries, keys, values, False)
        return (out[..., : v.shape[-2]] * reached.exp()[..., None]).mT.contiguous()

    def _fused_right(self, x: Tensor, route: Route) -> Tensor:
        query, key = self._features()
        out, total = route(query, key, F.pad(x.mT, (0, query.shape[-1] - x.shape[-2])), bool(self._masked))
        share = (total - self._log_norm).exp().masked_fill(self._empty, 0)
        return (out[..., : x.shape[-2]] * share[..., None]).mT.contiguous()

    def _log_sum_exp(self) -> Tensor:
        """Returns the log-sum-exp of each query's logits without the sink (batch, head, token); −∞ if every key is masked."""
        if self._route is None:
            return torch.cat(list(self._tiled(lambda a, b: self._factors.logits(slice(a, b)).logsumexp(-1))), -1)
        query, key = self._features()
        total = self._route(query, key, query, bool(self._masked))[1]
        return total.masked_fill(total < _MASKED / 2, -torch.inf)

    def _features(self) -> tuple[Tensor, Tensor]:
        """Returns queries and keys (batch, head, token, dim) whose products are the logits; key heads are expanded."""
        factors, mask = self._factors, self._factors.mask_of_four
        query = factors.query[:, :, self._rows].to(self.dtype) * factors.factor
        key = factors.key[:, :, self._columns].to(self.dtype)
        key = key.repeat_interleave(self.shape[1] // factors.key.shape[1], 1)
        if mask is None:
            return query, key
        mask = mask[..., self._columns] if mask.shape[3] > 1 else mask
        bias = torch.where(mask, 0, _MASKED) if mask.dtype == torch.bool else mask.clamp_min(_MASKED)
        bias = bias.to(self.dtype).mT.expand(*key.shape[:-1], 1)
        return F.pad(query, (0, 1), value=1.0), torch.cat([key, bias], -1)

    def _tiled(self, product: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
        """Yields `product` of one tile of rows after another. Under gradients the backward pass builds the tiles again."""
        n = self.shape[-2]
        size = max(1, _TILE // (self.shape[0] * self.shape[1] * self.shape[-1]))
        for start in range(0, n, size):
            stop = min(start + size, n)
            if torch.is_grad_enabled():
                yield checkpoint(product, start, stop, use_reentrant=False, preserve_rng_state=False)
            else:
                yield product(start, stop)


def triangular(factors: Factors, among: Tensor, upper: bool) -> Tensor:
    """Returns `Operator.triangular` of the map of factors, by what they mask. No logit is computed."""
    if factors.causal and not upper:
        return torch.ones(factors.shape[:2], dtype=torch.bool, device=factors.device)
    mask = factors.mask_of_four
    if mask is None or 1 in mask.shape[2:]:
        return (among.sum(-1) <= 1).expand(factors.shape[:2])
    inside = among.expand(factors.shape[:3])
    places = torch.arange(factors.shape[-1], device=factors.device)
    ahead = torch.zeros_like(inside)
    for rows in places.split(_ROWS):
        part = mask.mT[:, :, rows] if upper else mask[:, :, rows]
        part = part if part.dtype == torch.bool else part > _HIDING
        part = (part & (places > rows[:, None])).to(torch.float32)  # entries ahead of each row
        ahead[:, :, rows] = (part @ inside[..., None].to(torch.float32))[..., 0] > 0
    return ~(ahead & inside).any(-1)


def _within(outer: slice, inner: slice) -> slice:
    start, stop, _ = inner.indices(outer.stop - outer.start)
    return slice(outer.start + start, outer.start + stop)


def _length(part: slice) -> int:
    return part.stop - part.start
