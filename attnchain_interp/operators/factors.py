"""Attention held as its queries and keys instead of its map."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.checks import as_device, as_number, check_tensor
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.operator import full_precision, wide_dtype
from attnchain_interp.reprs import with_fields


@final
@dataclass(frozen=True, eq=False)
class Factors:
    """Attention as softmax(scale · q·k, soft-capped, + mask), without the map.

    Attributes:
        query: (batch, head, query, dim), floating point.
        key: (batch, key head, key, dim). Each key head serves head / key head query heads (grouped queries). A chain needs
            queries and keys of the same tokens; cross-attention has other numbers.
        scale: 1/√dim when None.
        mask: broadcastable to (batch, head, query, key): bool (true: may attend) or added to the logits.
        causal: tokens attend to themselves and to earlier tokens only. Needs as many keys as queries.
        softcap: logits become softcap · tanh(logits / softcap), before the mask.
        sinks: (head,) logits of a sink that takes part in the softmax and is then dropped. Rows sum to less than one.

    Raises:
        AttentionError: shapes that do not fit, tensors on different devices, NaN or infinite factors, NaN in the mask or the
            sinks, a mask of integers, a scale that is not finite, a soft-cap that is not positive and finite.
    """

    query: Tensor
    key: Tensor
    _: KW_ONLY
    scale: float | None = None
    mask: Tensor | None = None
    causal: bool = False
    softcap: float | None = None
    sinks: Tensor | None = None

    def __repr__(self) -> str:
        return with_fields(self)

    def __post_init__(self) -> None:
        query, key, mask = self.query, self.key, self.mask
        for name, factor in (("query", query), ("key", key)):
            check_tensor(name, factor, "(batch, head, token, dim)")
        if mask is not None:
            check_tensor("mask", mask, "that broadcasts to (batch, head, query, key)")
        if self.sinks is not None:
            check_tensor("sinks", self.sinks, "(head,)")
        shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}"
        if query.ndim != 4 or key.ndim != 4 or 0 in query.shape or 0 in key.shape:
            raise AttentionError(
                f"factors must be (batch, head, token, dim), none empty; got {shapes}.", "Add the missing axes."
            )
        if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
            raise AttentionError(f"query and key differ in batch or dim ({shapes}).", "Pass the factors of one layer.")
        if self.causal and query.shape[2] != key.shape[2]:
            raise AttentionError(
                f"causal attention needs as many keys as queries ({shapes}).", "Pass mask= instead of causal=True."
            )
        if query.shape[1] % key.shape[1]:
            raise AttentionError(
                f"{query.shape[1]} query heads cannot share {key.shape[1]} key heads evenly ({shapes}).",
                "Pass as many key heads as query heads, or a divisor of that number.",
            )
        devices = {name: tensor.device for name, tensor in self.tensors.items()}
        if len(set(devices.values())) > 1:
            where = ", ".join(f"{name} on {device}" for name, device in devices.items())
            raise AttentionError(f"the factors are on different devices ({where}).", "Move them to one device.")
        if not query.is_floating_point() or not key.is_floating_point():
            raise AttentionError(
                f"factors must be floating point; got query {query.dtype}, key {key.dtype}.", "Pass .float() tensors."
            )
        for name, factor in (("query", query), ("key", key)):
            if not bool(factor.sum(dtype=wide_dtype(factor.dtype)).isfinite()):
                heads = [tuple(index) for index in (~factor.isfinite()).flatten(2).any(-1).nonzero().tolist()]
                named = ", ".join(map(str, heads[:4])) + (" …" if len(heads) > 4 else "")
                raise AttentionError(
                    f"{name} holds NaN or infinity, so the maps would too: (example, head) {named}.",
                    "Find the overflow in the model. Layers before it have answers: layers=[…].",
                )
        if mask is not None:
            if mask.dtype != torch.bool and not mask.is_floating_point():
                raise AttentionError(
                    f"mask is {mask.dtype}.", "Pass bool (true: may attend), or floats that are added to the logits."
                )
            full = self.shape
            try:
                fits = torch.broadcast_shapes(mask.shape, full) == full
            except RuntimeError:
                fits = False
            if not fits:
                raise AttentionError(
                    f"mask has shape {tuple(mask.shape)}; it must broadcast to {tuple(full)}.",
                    "Use the axes (batch, head, query, key); an axis of length 1 is broadcast.",
                )
        if self.scale is not None and not math.isfinite(as_number(self.scale)):
            raise AttentionError(f"scale is {self.scale!r}; it must be a finite number.", "Pass scale=None for 1/√dim.")
        if self.softcap is not None and not 0 < as_number(self.softcap) < math.inf:
            raise AttentionError(
                f"softcap is {self.softcap!r}; it must be positive and finite.", "Pass softcap=None for no cap."
            )
        for name, added in (("mask", mask), ("sinks", self.sinks)):
            if added is not None and added.is_floating_point() and bool(added.amax().isnan()):
                raise AttentionError(f"{name} holds NaN, so the maps would too.", "Use -inf for what is hidden.")
        if self.sinks is not None and self.sinks.shape != (query.shape[1],):
            raise AttentionError(
                f"sinks has shape {tuple(self.sinks.shape)}; it must be ({query.shape[1]},).", "Pass one logit a head."
            )

    @property
    def shape(self) -> torch.Size:
        """The shape of the map: (batch, head, query, key)."""
        return torch.Size([*self.query.shape[:3], self.key.shape[2]])

    @property
    def device(self) -> torch.device:
        return self.query.device

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        held = {name: getattr(self, name) for name in ("query", "key", "mask", "sinks")}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes that the factors hold."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def to(self, device: torch.device | str) -> Factors:
        """Returns the factors on another device."""
        device = as_device(device)
        return self._derived(**{name: tensor.to(device) for name, tensor in self.tensors.items()})

    def detach(self) -> Factors:
        """Returns the factors outside the graph in which they were computed."""
        return self._derived(**{name: tensor.detach() for name, tensor in self.tensors.items()})

    def owned(self) -> Factors:
        """Returns the factors with a storage of their own, where they are views (queries of a joint projection)."""
        held = {"query": self.query, "key": self.key}
        return self._derived(**{name: t.clone() for name, t in held.items() if t.untyped_storage().nbytes() > t.nbytes})

    def among(self, tokens: Tensor | slice) -> Factors:
        """Returns the factors of attention among `tokens` (positions, ascending). Only their logits enter the softmax."""
        mask = self.mask_of_four
        if mask is not None:
            mask = mask[:, :, tokens] if mask.shape[2] > 1 else mask
            mask = mask[..., tokens] if mask.shape[3] > 1 else mask
        return self._derived(query=self.query[:, :, tokens], key=self.key[:, :, tokens], mask=mask)

    def _derived(self, **changes: Any) -> Factors:
        """Returns these factors with some fields changed, without the checks."""
        made = object.__new__(Factors)
        for field in fields(self):
            object.__setattr__(made, field.name, changes.get(field.name, getattr(self, field.name)))
        return made

    def heads(self, chosen: slice) -> Factors:
        """Returns the factors of some query heads."""
        group = self.query.shape[1] // self.key.shape[1]
        those = range(self.query.shape[1])[chosen]
        first, last = those[0] // group, those[-1] // group
        if group == 1 or first == last:  # heads that share a key go on sharing it
            key = self.key[:, chosen if group == 1 else slice(first, first + 1)]
        else:
            key = self.key.repeat_interleave(group, 1)[:, chosen]
        mask = self.mask_of_four
        if mask is not None and mask.shape[1] > 1:
            mask = mask[:, chosen]
        sinks = None if self.sinks is None else self.sinks[chosen]
        return self._derived(query=self.query[:, chosen], key=key, mask=mask, sinks=sinks)

    @full_precision()
    def logits(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Returns the logits (batch, head, query, key) of some queries and keys, masked with −∞, in float32 or wider."""
        dtype = wide_dtype(self.query.dtype)
        query, key = self.query[:, :, rows].to(dtype) * self.factor, self.key[:, :, columns].to(dtype)
        logits = products_of_groups(query, key)
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        if self.causal:
            tokens = self.shape[-1]
            ahead = rows.indices(tokens)[0] - columns.indices(tokens)[0]  # of the first query, among these keys
            common = max(0, ahead)
            some = logits[..., common:]  # all queries see the other keys
            later = torch.ones(some.shape[-2:], dtype=torch.bool, device=self.device).triu_(ahead - common + 1)
            some.masked_fill_(later, -torch.inf)
        mask = self.mask_of_four
        if mask is not None:
            mask = mask[:, :, rows if mask.shape[2] > 1 else slice(None), columns if mask.shape[3] > 1 else slice(None)]
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.to(dtype)
        return logits

    @property
    def mask_of_four(self) -> Tensor | None:
        """The mask with four axes; an axis along which it is broadcast has length 1."""
        return None if self.mask is None else self.mask.reshape((1,) * (4 - self.mask.ndim) + self.mask.shape)

    @property
    def factor(self) -> float:
        """The scale that q·k is multiplied by."""
        return 1 / math.sqrt(self.query.shape[-1]) if self.scale is None else self.scale

    def maps(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Builds the map (batch, head, query, key) of some queries in float32 or wider. Rows without a key are zero.

        `columns` hold all keys that these queries see.
        """
        logits = self.logits(rows, columns)
        if torch.is_grad_enabled() or self.sinks is not None:
            return _probabilities(logits, self.sinks)
        maps = torch.softmax(logits, -1, out=logits)  # in place: large maps are not allocated twice
        return _probabilities(self.logits(rows, columns), None) if _first_column_has_nan(maps) else maps


def products_of_groups(left: Tensor, right: Tensor) -> Tensor:
    """Returns left · right (batch, head, row, column) for left (batch, head, row, dim), right (batch, key head, column, dim).

    Each key head serves head / key head heads, whose rows are multiplied together: nothing is copied for each head.
    """
    heads, rows = left.shape[1:3]
    together = left.unflatten(1, (right.shape[1], -1)).flatten(2, 3)
    return (together @ right.mT).reshape(len(left), heads, rows, right.shape[2])


def _probabilities(logits: Tensor, sinks: Tensor | None) -> Tensor:
    """Returns the softmax of logits (batch, head, query, key) beside a sink; zero where every key is masked."""
    maps = logits.softmax(-1)
    if _first_column_has_nan(maps):
        empty = (logits == -torch.inf).all(-1, keepdim=True)
        if bool(empty.any()):  # filled before the softmax: its gradient would be NaN, whatever became of the result
            return _probabilities(logits.masked_fill(empty, 0), sinks).masked_fill(empty, 0)
    if sinks is not None:
        maps = maps * torch.sigmoid(logits.logsumexp(-1) - sinks.to(logits.dtype)[:, None])[..., None]
    return maps


def _first_column_has_nan(maps: Tensor) -> bool:
    """A softmax of a row that is −∞ everywhere, or has a NaN, is NaN everywhere."""
    return bool(maps[..., 0].isnan().any())
