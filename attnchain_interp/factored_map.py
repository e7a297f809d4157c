"""Products with an attention map that is never built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnchain_interp.errors import AttentionError
from attnchain_interp.factors import Factors
from attnchain_interp.fused_attention import fused_route
from attnchain_interp.operators import Operator

_TILE: Final = 2**22  # map entries that are built at once where no fused kernel serves
_MASKED: Final = -1e5  # a logit whose exponential is zero, and finite, unlike −∞ times anything
_LOST: Final = 1e-5  # share of the mass that a fused product may miss before tiles take over


@final
class FactoredMap(Operator):
    """The map A of `Factors` as an operator: (batch, head, token, token), in memory linear in the number of tokens.

    A step v ↦ vA is attention with the roles of queries and keys swapped: with L the log-sum-exp of a query's logits,
    (vA)_j = Σ_i v_i exp(q_i·k_j − L_i), so queries [k, 1] and keys [q, −L] attend over i, and the output times its own
    exponentiated log-sum-exp is the step. Causal attention is causal again once the order of tokens is reversed; a mask of
    keys (padding) is one more feature. Where no fused kernel serves (soft-caps, masks that differ by query, gradients) or it
    loses mass to rounding (logits of 10⁴), tiles of the map are built one after another.

    Raises:
        AttentionError: logits that overflow.
    """

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self.shape = factors.shape
        self.dtype = torch.promote_types(factors.query.dtype, torch.float32)
        self.device = factors.query.device
        mask = factors.mask_of_four
        plain = factors.softcap is None and (mask is None or mask.shape[2] == 1) and not self.requires_grad
        self._route = fused_route(self.device.type, self.dtype) if plain else None
        own = self._log_sum_exp()
        self._empty = own == -torch.inf  # every key masked: a row of zeros
        own = own.masked_fill(self._empty, 0)
        if not bool(own.isfinite().all()):
            raise AttentionError("the logits of a row overflow (a query times a key is infinite); rescale the factors.")
        sinks = torch.full_like(own[:1, :, :1], -torch.inf) if factors.sinks is None else factors.sinks.to(own)[:, None]
        self._log_norm = torch.logaddexp(own, sinks.expand_as(own))
        self._mass = torch.sigmoid(own - sinks).masked_fill(self._empty, 0)

    @property
    def requires_grad(self) -> bool:
        held = (self._factors.query, self._factors.key, self._factors.mask, self._factors.sinks)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in held)

    def left(self, v: Tensor) -> Tensor:
        v = v.masked_fill(self._empty[..., None, :], 0)
        if self._route is not None and not _differentiated(v):
            out = torch.cat([self._fused_left(part) for part in v.split(self._factors.query.shape[-1], -2)], -2)
            missing = (out.sum(-1) - (v * self._mass[..., None, :]).sum(-1)).abs()
            if bool((missing <= _LOST * v.abs().sum(-1)).all()):
                return out
            self._route = None
        total = torch.zeros_like(v)
        for part in self._tiled(lambda a, b: v[..., a:b] @ self.rows(a, b)):
            total = total + part
        return total

    def right(self, x: Tensor) -> Tensor:
        if self._route is not None and not _differentiated(x):
            return torch.cat([self._fused_right(part) for part in x.split(self._factors.query.shape[-1], -2)], -2)
        return torch.cat(list(self._tiled(lambda a, b: x @ self.rows(a, b).mT)), -1)

    def rows(self, start: int, stop: int) -> Tensor:
        seen = stop if self._factors.causal else self.shape[-1]
        rows = self._factors.logits(slice(start, stop), slice(0, seen)).softmax(-1) * self._mass[..., start:stop, None]
        return F.pad(rows.masked_fill(self._empty[..., start:stop, None], 0), (0, self.shape[-1] - seen))

    def columns(self, start: int, stop: int) -> Tensor:
        return (self._factors.logits(columns=slice(start, stop)) - self._log_norm[..., None]).exp().mT

    def diagonal(self) -> Tensor:
        tiles = (self._factors.logits(slice(a, a + 64), slice(a, a + 64)) for a in range(0, self.shape[-1], 64))
        own = torch.cat([tile.diagonal(dim1=-2, dim2=-1) for tile in tiles], -1)
        return (own - self._log_norm).exp()

    def triangular(self, among: Tensor, upper: bool) -> Tensor:
        if self._factors.causal and not upper:
            return torch.ones(self.shape[:2], dtype=torch.bool, device=self.device)
        mask = self._factors.mask_of_four
        if mask is None or 1 in mask.shape[2:]:
            return (among.sum(-1) <= 1).expand(self.shape[:2])
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        allowed = (allowed.mT if upper else allowed).triu(1)
        inside = among.expand(self.shape[:3]).to(torch.float32)
        # an entry ahead, from a token that counts to a token that counts: one product a head, no copy of the mask
        ahead = (inside[:, :, None] @ allowed.to(torch.float32) @ inside[..., None])[..., 0, 0]
        return ~(ahead > 0).expand(self.shape[:2])

    def _fused_left(self, v: Tensor) -> Tensor:
        query, key = self._features()
        queries = F.pad(key, (0, 1), value=1.0)
        keys = torch.cat([query, -self._log_norm[..., None]], -1)
        values = F.pad(v.mT, (0, queries.shape[-1] - v.shape[-2]))
        if self._factors.causal:
            out, reached = self._attend(queries.flip(2), keys.flip(2), values.flip(2))
            out, reached = out.flip(2), reached.flip(2)
        else:
            out, reached = self._attend(queries, keys, values)
        return (out[..., : v.shape[-2]] * reached.exp()[..., None]).mT.contiguous()

    def _fused_right(self, x: Tensor) -> Tensor:
        query, key = self._features()
        out, _ = self._attend(query, key, F.pad(x.mT, (0, query.shape[-1] - x.shape[-2])))
        return (out[..., : x.shape[-2]] * self._mass[..., None]).mT.contiguous()

    def _log_sum_exp(self) -> Tensor:
        """(batch, head, token): of every query's logits without the sink; −∞ where every key is masked."""
        if self._route is None:
            return torch.cat(list(self._tiled(lambda a, b: self._factors.logits(slice(a, b)).logsumexp(-1))), -1)
        query, key = self._features()
        total = self._attend(query, key, query)[1]
        return total.masked_fill(total < _MASKED / 2, -torch.inf)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        assert self._route is not None  # noqa: S101
        return self._route(query, key, value, self._factors.causal)

    def _features(self) -> tuple[Tensor, Tensor]:
        """Scaled queries and keys expanded to the query heads (batch, head, token, dim), whose products are the logits."""
        factors, mask = self._factors, self._factors.mask_of_four
        query = factors.query.to(self.dtype) * factors.factor
        key = factors.key.to(self.dtype).repeat_interleave(self.shape[1] // factors.key.shape[1], 1)
        if mask is None:
            return query, key
        bias = torch.where(mask, 0, _MASKED) if mask.dtype == torch.bool else mask.clamp_min(_MASKED)
        bias = bias.to(self.dtype).mT.expand(*self.shape[:-1], 1)
        return F.pad(query, (0, 1), value=1.0), torch.cat([key, bias], -1)

    def _tiled(self, product: Callable[[int, int], Tensor]):
        """`product` of one tile of queries after another; under gradients, tiles are built again when they are needed."""
        n = self.shape[-1]
        size = max(1, _TILE // (self.shape[0] * self.shape[1] * n))
        for start in range(0, n, size):
            stop = min(start + size, n)
            if torch.is_grad_enabled():
                yield checkpoint(product, start, stop, use_reentrant=False)
            else:
                yield product(start, stop)


def _differentiated(v: Tensor) -> bool:
    return torch.is_grad_enabled() and v.requires_grad
