"""Adds up the maps of the layers as they come, for methods that read the mean of the layers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from attnchain_interp.capture.collector import Expected, MakeNorms, told
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.operators import Factors
from attnchain_interp.store import AttentionStore, LayerAttention, Role

LayerRule = Literal["mean", "late"]


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
    """Keeps the weighted mean of the layers' maps, as a store of one layer. It keeps the layers of an image apart.

    Args:
        rules: of the weights.
    """

    def __init__(self, rules: LayerMean) -> None:
        self._rules, self._apart = rules, StoreCollector("maps")
        self._expected: Expected | None = None
        self._causal: bool | None = None
        self._total: Tensor | None = None
        self._weights: list[float] = []

    def __repr__(self) -> str:
        return f"MeanCollector({self._rules})"

    def expect(self, expected: Expected) -> None:
        """See `Collector.expect`."""
        self._expected = expected
        self._apart.expect(expected)

    def take(self, name: str, attention: Tensor | Factors, sink: bool = False, value_norms: MakeNorms | None = None) -> None:
        """Adds the map of one layer. See `Collector.take`.

        Raises:
            MixedLayers: it is causal and an earlier layer is not, or the other way round.
        """
        tokens = told(self._expected).tokens
        causal = LayerAttention(name, attention).causal(tokens.mask)
        if self._causal not in (None, causal):
            raise MixedLayers
        self._causal = causal
        rule = self._rules.decoder if causal else self._rules.encoder
        if rule is None or isinstance(attention, Factors) or bool((tokens.roles == Role.PATCH).any()):
            self._apart.take(name, attention, sink, value_norms)
            return
        weight = self._weight(rule)
        self._weights.append(weight)
        if self._total is None:
            self._total = torch.zeros_like(attention)
        self._total.add_(attention.to(self._total.device), alpha=weight)  # layers may lie on several devices

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
        mean = LayerAttention(f"mean of {len(names)} layers", self._total.div_(sum(self._weights)))
        return AttentionStore([mean], expected.tokens, metadata)

    def _weight(self, rule: LayerRule) -> float:
        layers = told(self._expected).layers
        return len(self._weights) / (layers - 1) if rule == "late" and layers > 1 else 1.0
