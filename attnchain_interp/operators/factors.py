"""Attention held as its queries and keys instead of its map."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.precision import wide_dtype
from attnchain_interp.reprs import with_fields


@final
@dataclass(frozen=True)
class Factors:
    """Attention as softmax(scale · q·k, soft-capped, + mask), without the map.

    Attributes:
        query: (batch, head, query, dim), floating point.
        key: (batch, key head, key, dim); each key head serves head / key head query heads (grouped queries). As many keys as
            queries, of the same tokens, make a chain; other numbers are those of cross-attention.
        scale: 1/√dim when None.
        mask: broadcastable to (batch, head, query, key): bool (true: may attend) or added to the logits.
        causal: tokens attend to themselves and to earlier tokens only; needs as many keys as queries.
        softcap: logits become softcap · tanh(logits / softcap), before the mask.
        sinks: (head,) logits of a sink that takes part in the softmax and is then dropped: rows sum to less than one.

    Raises:
        AttentionError: shapes that do not fit, tensors on different devices, NaN or infinite factors, a mask of integers,
            a soft-cap that is not positive.
    """

    query: Tensor
    key: Tensor
    scale: float | None = None
    mask: Tensor | None = None
    causal: bool = False
    softcap: float | None = None
    sinks: Tensor | None = None

    def __repr__(self) -> str:
        return with_fields(self)

    def __post_init__(self) -> None:
        query, key, mask = self.query, self.key, self.mask
        shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}"
        if query.ndim != 4 or key.ndim != 4 or 0 in query.shape:
            raise AttentionError(f"factors must be (batch, head, token, dim), none empty; got {shapes}.")
        if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
            raise AttentionError(f"query and key differ in batch or dim ({shapes}).")
        if self.causal and query.shape[2] != key.shape[2]:
            raise AttentionError(f"causal attention needs as many keys as queries ({shapes}); say by a mask what is seen.")
        if query.shape[1] % key.shape[1]:
            raise AttentionError(f"{query.shape[1]} query heads cannot share {key.shape[1]} key heads evenly ({shapes}).")
        others = {"key": key, "mask": mask, "sinks": self.sinks}
        devices = {"query": query.device} | {name: t.device for name, t in others.items() if t is not None}
        if len(set(devices.values())) > 1:
            where = ", ".join(f"{name} on {device}" for name, device in devices.items())
            raise AttentionError(f"the factors are on different devices ({where}); move them to one.")
        if not query.is_floating_point() or not key.is_floating_point():
            raise AttentionError(f"factors must be floating point; got query {query.dtype}, key {key.dtype}.")
        if not all(bool(factor.sum(dtype=wide_dtype(factor.dtype)).isfinite()) for factor in (query, key)):
            raise AttentionError("query or key holds NaN or infinity, so the map would; find what overflowed in the model.")
        if mask is not None:
            if mask.dtype != torch.bool and not mask.is_floating_point():
                raise AttentionError(f"mask is {mask.dtype}; pass bool (true: may attend) or floats added to the logits.")
            full = self.shape
            try:
                fits = torch.broadcast_shapes(mask.shape, full) == full
            except RuntimeError:
                fits = False
            if not fits:
                raise AttentionError(f"mask has shape {tuple(mask.shape)}; it must broadcast to {tuple(full)}.")
        if self.softcap is not None and not self.softcap > 0:
            raise AttentionError(f"softcap is {self.softcap}; it must be positive, or None for no cap.")
        if self.sinks is not None and self.sinks.shape != (query.shape[1],):
            raise AttentionError(f"sinks has shape {tuple(self.sinks.shape)}; it must be ({query.shape[1]},): one a head.")

    @property
    def shape(self) -> torch.Size:
        """(batch, head, query, key): the shape of the map."""
        return torch.Size([*self.query.shape[:3], self.key.shape[2]])

    @property
    def device(self) -> torch.device:
        return self.query.device

    @property
    def nbytes(self) -> int:
        """Bytes that the factors hold."""
        held = (self.query, self.key, self.mask, self.sinks)
        return sum(t.numel() * t.element_size() for t in held if t is not None)

    def to(self, device: torch.device | str) -> Factors:
        """The factors on another device."""
        mask, sinks = (None if t is None else t.to(device) for t in (self.mask, self.sinks))
        return Factors(self.query.to(device), self.key.to(device), self.scale, mask, self.causal, self.softcap, sinks)

    def detach(self) -> Factors:
        """The factors outside the graph in which they were computed."""
        held = {name: getattr(self, name) for name in ("query", "key", "mask", "sinks")}
        return self._derived(**{name: None if t is None else t.detach() for name, t in held.items()})

    def owned(self) -> Factors:
        """The factors without the rest of the storage that they are views of (queries of a joint projection)."""
        held = {name: getattr(self, name) for name in ("query", "key")}
        return self._derived(
            **{name: t.clone() for name, t in held.items() if t.untyped_storage().nbytes() > t.nbytes},
        )

    def among(self, tokens: Tensor | slice) -> Factors:
        """The factors of attention among some tokens (numbers, ascending): their logits alone enter the softmax."""
        mask = self.mask_of_four
        if mask is not None:
            mask = mask[:, :, tokens] if mask.shape[2] > 1 else mask
            mask = mask[..., tokens] if mask.shape[3] > 1 else mask
        return self._derived(query=self.query[:, :, tokens], key=self.key[:, :, tokens], mask=mask)

    def _derived(self, **changes: Any) -> Factors:
        """These factors with some tensors in parts, which need no second look."""
        made = object.__new__(Factors)
        for field in fields(self):
            object.__setattr__(made, field.name, changes.get(field.name, getattr(self, field.name)))
        return made

    def heads(self, chosen: slice) -> Factors:
        """The factors of some query heads."""
        group = self.query.shape[1] // self.key.shape[1]
        key = self.key.repeat_interleave(group, 1)[:, chosen] if group > 1 else self.key[:, chosen]
        mask = self.mask_of_four
        if mask is not None and mask.shape[1] > 1:
            mask = mask[:, chosen]
        sinks = None if self.sinks is None else self.sinks[chosen]
        return self._derived(query=self.query[:, chosen], key=key, mask=mask, sinks=sinks)

    def logits(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """The logits (batch, head, query, key) of some queries and keys, masked with −∞, in float32 or better."""
        dtype = wide_dtype(self.query.dtype)
        groups = (self.key.shape[1], self.query.shape[1] // self.key.shape[1])
        query = self.query[:, :, rows].to(dtype).unflatten(1, groups) * self.factor
        logits = (query @ self.key[:, :, None, columns].to(dtype).mT).flatten(1, 2)
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        if self.causal:
            places = torch.arange(self.shape[-1], device=self.query.device)
            logits = logits.masked_fill(places[rows, None] < places[columns], -torch.inf)
        mask = self.mask_of_four
        if mask is not None:
            mask = mask[:, :, rows if mask.shape[2] > 1 else slice(None), columns if mask.shape[3] > 1 else slice(None)]
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.to(dtype)
        return logits

    @property
    def mask_of_four(self) -> Tensor | None:
        """The mask with four axes, those it is broadcast along of length 1."""
        return None if self.mask is None else self.mask.reshape((1,) * (4 - self.mask.ndim) + self.mask.shape)

    @property
    def factor(self) -> float:
        """What q·k is multiplied by."""
        return 1 / math.sqrt(self.query.shape[-1]) if self.scale is None else self.scale

    def maps(self, rows: slice = slice(None)) -> Tensor:
        """The map (batch, head, query, key) of some queries, built, in float32 or better; rows without a key are zero."""
        return _probabilities(self.logits(rows), self.sinks)


def _probabilities(logits: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax of (batch, head, query, key) logits beside a sink; zero where every key is masked."""
    maps = logits.softmax(-1)
    if bool(maps[..., 0].isnan().any()):
        empty = (logits == -torch.inf).all(-1, keepdim=True)
        if bool(empty.any()):  # filled before the softmax: its gradient would be NaN, whatever became of the result
            return _probabilities(logits.masked_fill(empty, 0), sinks).masked_fill(empty, 0)
    if sinks is not None:
        maps = maps * torch.sigmoid(logits.logsumexp(-1) - sinks.to(logits.dtype)[:, None])[..., None]
    return maps
