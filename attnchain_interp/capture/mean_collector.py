"""Adds up the maps of the layers as they come, for methods that read the mean of the layers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal, final

import torch
from torch import Tensor

from attnchain_interp.capture.collector import Expected, Shown, told
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.operators import Factors, float32_or_wider, full_precision, wide_dtype
from attnchain_interp.operators.tiles import rows_at_once
from attnchain_interp.store import AttentionStore, LayerAttention, Role

LayerRule = Literal["mean", "late"]

_TILE: Final = 2**18  # entries of the maps of a layer that are built at once
_COPIES: Final = 4  # of the mean map that a method holds, which the limit is for too


@final
@dataclass(frozen=True)
class LayerMean:
    """The rules of `layer_weights` by which the layers of a text are added up; None keeps the layers apart.

    Attributes:
        decoder: of causal maps.
        encoder: of other maps.
    """

    decoder: LayerRule | None
    encoder: LayerRule | None

    @property
    def one(self) -> bool:
        """Whether one map is kept of every text."""
        return self.decoder is not None and self.encoder is not None


class MixedLayers(Exception):  # noqa: N818 - no error: `capture` keeps the layers apart, by a second forward
    """Some layers are causal and others are not, so that the first one did not tell the rule."""


@final
class MeanCollector:
    """Keeps the weighted mean of the layers' maps and heads, as a store of one layer. It keeps the layers of an image apart.

    Args:
        rules: of the weights.
        apart: keeps the layers that are not added up. None: a store of maps.
        most_bytes: layers are added up where their maps take more than this, and the mean and its copies do not. None: always.
    """

    def __init__(self, rules: LayerMean, apart: StoreCollector | None = None, most_bytes: int | None = None) -> None:
        self._rules, self._most_bytes = rules, most_bytes
        self._apart = StoreCollector("maps") if apart is None else apart
        self._expected: Expected | None = None
        self._adds = self._asked = False
        self._causal: bool | None = None
        self._total: Tensor | None = None
        self._weights: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"MeanCollector({self._rules})"

    def expect(self, expected: Expected) -> None:
        """Decides whether layers are added up. See `Collector.expect`."""
        self._expected, most = expected, self._most_bytes
        one = expected.map_bytes // (expected.layers * expected.heads)
        fits = most is None or expected.map_bytes > most >= _COPIES * one
        known = self._rules.decoder is not None or self._rules.encoder is not None
        images = bool((expected.tokens.roles == Role.PATCH).any())
        self._adds = fits and known and expected.queries is None and not images
        if not self._adds:
            self._keep_apart(expected)

    @full_precision()
    def take(self, name: str, shown: Shown) -> None:
        """Adds the map of one layer. See `Collector.take`.

        Raises:
            MixedLayers: it is causal and an earlier layer is not, or the other way round.
        """
        attention, expected, rule = shown.attention, told(self._expected), None
        layer = LayerAttention(name, attention)
        if self._adds:
            expected.check_layer(name, attention, self._weights)
            causal = layer.causal(expected.tokens.mask)
            if self._causal not in (None, causal):
                raise MixedLayers
            self._causal = causal
            rule = self._rules.decoder if causal else self._rules.encoder
        if rule is None:
            self._keep_apart(expected)
            self._apart.take(name, shown)
            return
        weight = self._weights[name] = self._weight(rule)
        if self._total is None:
            shape = (attention.shape[0], 1, *attention.shape[2:])
            self._total = torch.zeros(shape, dtype=wide_dtype(layer.dtype), device=layer.device)
        if weight:
            share, total = weight / attention.shape[1], self._total[:, 0]
            for rows, maps in _head_sums(attention):
                total[:, rows, : maps.shape[-1]].add_(maps.to(total.device), alpha=share)  # of several devices

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> AttentionStore:
        """Returns the store. See `Collector.result`.

        Raises:
            MixedLayers: another number of layers ran than was expected.
        """
        expected = told(self._expected)
        if self._total is None:
            return self._apart.result(names, metadata)
        if not len(names) == len(self._weights) == expected.layers:
            raise MixedLayers
        mean = LayerAttention(f"mean of {len(names)} layers", self._total.div_(sum(self._weights.values())))
        return AttentionStore([mean], expected.tokens, metadata)

    def _keep_apart(self, expected: Expected) -> None:
        if not self._asked:
            self._asked = True
            self._apart.expect(expected)

    def _weight(self, rule: LayerRule) -> float:
        layers = told(self._expected).layers
        return len(self._weights) / (layers - 1) if rule == "late" and layers > 1 else 1.0


def _head_sums(attention: Tensor | Factors) -> Iterator[tuple[slice, Tensor]]:
    """Yields some queries after another with the sum of their heads (batch, query, key), each row divided by its sum first.

    In causal attention the keys end with the last one that these queries see.
    """
    batch, heads, queries, keys = attention.shape
    sharing = heads // attention.key.shape[1] if isinstance(attention, Factors) else 1
    together = sharing if attention.device.type == "cpu" else heads  # few enough for a cache
    parts = [_some(attention, slice(head, head + together)) for head in range(0, heads, together)]
    size = rows_at_once(_TILE, batch * together * keys, attention.device)
    for start in range(0, queries, size):
        rows = slice(start, min(start + size, queries))
        yield rows, reduce(Tensor.add_, (_rows(part, rows) for part in parts))


def _some(attention: Tensor | Factors, heads: slice) -> Tensor | Factors:
    return attention.heads(heads) if isinstance(attention, Factors) else attention[:, heads]


def _rows(attention: Tensor | Factors, rows: slice) -> Tensor:
    """Returns the sum over heads (batch, query, key) of some queries of the map, each row divided by its sum."""
    if not isinstance(attention, Factors):
        maps = float32_or_wider(attention[:, :, rows])
    else:
        maps = attention.maps(rows, slice(0, rows.stop if attention.causal else attention.shape[-1]))
        if attention.sinks is None:
            return reduce(Tensor.add_, maps.unbind(1))
    return reduce(Tensor.add_, (maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)).unbind(1))
