"""The base class of the methods that read attention alone: from inputs to a store, from a store to a score per token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from attnchain_interp.attribution.defaults import Settings, maps_of, settings_for, settings_of
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution, no_residual
from attnchain_interp.capture import LayerMean, Maps, capture
from attnchain_interp.capture.mean_collector import LayerRule
from attnchain_interp.chain import Chain
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients import logits_kept
from attnchain_interp.store import AttentionStore, Direction, Heads, LayerSelection, LayerWeights, TokenSelection
from attnchain_interp.store.chains import Sink
from attnchain_interp.store.head_weights import check_heads
from attnchain_interp.store.layers import check_store


class AttentionAttribution(TokenAttribution, ABC):
    """A Captum attribution method whose scores come from attention alone.

    It answers "which tokens does the model attend to", not "which tokens speak for this class". `target` is accepted, as in
    Captum, and does not change the result. A subclass defines `score`; with a `start` it also sets `has_start = True`.

    Args:
        forward_func: a model that an adapter recognises, or a callable inputs → `AttentionStore`. It is left as it was. None
            where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list). The maps of several layers are averaged.
            None: see `attnchain_interp.attribution.DEFAULTS`.
        heads: the weights of the heads of a layer, see `head_weights`; or "each", to score every head by itself (with
            `output="tokens"` or `"grid"`).
        tokens: the states of the chain, see `TokenLayout.select`. None means the patches of an image, else everything but
            padding; "no-sinks" leaves out the `sinks` of the layers. The other tokens score 0.
        direction: "incoming" (mass gathers where attention goes) or "outgoing" (the reversed chain).
        layer_weights: the weights of the layers in the mean: "mean", "late" (by depth), "lambda2", "inverse-lambda2", a list,
            or a function. See `attnchain_interp.store.layer_weights`. None: see `attnchain_interp.attribution.DEFAULTS`.
        balanced: balance the chain (`balance`), or the strength of it. It takes the pull from tokens that everybody attends
            to. None: see `attnchain_interp.attribution.DEFAULTS`.
        maps: the maps that `attribute` captures: "attention", or contributions: "norm", "norm-res", "norm-resln",
            "projection" or "alti". See `capture`. `score` takes a store of any maps as it is. None: see
            `attnchain_interp.attribution.DEFAULTS`; and "attention" where `heads` is not "mean", since contributions hold one
            map of all heads, or where `tokens` is "no-sinks", since they tell no sinks.

    Raises:
        AttentionError: on attribution, for a start, layer, head or token that does not exist, and the errors of `capture`.
    """

    layers: LayerSelection | None
    direction: Direction
    maps: Maps | None

    def __init__(
        self,
        forward_func: Any = None,
        *,
        layers: LayerSelection | None = None,
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
        maps: Maps | None = None,
    ) -> None:
        if maps is not None:
            check_one_of("maps", maps, get_args(Maps))
        check_heads(heads)
        super().__init__(forward_func)
        self.layers, self.heads, self.tokens, self.direction = layers, heads, tokens, direction
        self.layer_weights, self.balanced, self.maps = layer_weights, balanced, maps

    @abstractmethod
    def score(self, store: AttentionStore) -> Tensor:
        """Returns one score per token, without a model: (batch, token), or (batch, head, token) for `heads="each"`.

        Raises:
            AttentionError: the store lacks a layer, head or token that the method needs.
        """

    def score_with_residual(self, store: AttentionStore) -> tuple[Tensor, Tensor]:
        """Returns `score` and the residual of its equation: (batch,), or (batch, head) for `heads="each"`.

        Raises:
            AttentionError: the method solves no equation (`has_convergence_delta()` is false), or the errors of `score`.
        """
        raise no_residual(self)

    def score_part(self, store: AttentionStore, first: int) -> Tensor:
        """Returns `score` of the examples of a batch from number `first` on. Only a random score depends on the number."""
        return self.score(store)

    def read(self, call: Call) -> AttentionStore:
        positional, named = call.arguments(self.forward_func)
        layers = "all" if self.layers is None else self.layers
        named: dict[str, Any] = {**logits_kept(self.forward_func, 1, named), **named}
        return capture(self.forward_func, *positional, layers=layers, maps=self.captured_maps, keep=self._kept, **named)

    @property
    def _kept(self) -> Literal["auto"] | LayerMean:
        """The `keep` of `capture` when `attribute` calls it."""
        return "auto"

    @property
    def captured_maps(self) -> Maps | None:
        """The `maps` of `capture` when `attribute` calls it: as the user gave them, or the default.

        Raises:
            AttentionError: contributions with chosen `heads`: there is one map of all heads.
        """
        if isinstance(self.heads, str) and self.heads == "mean":
            return maps_of(self)
        if self.maps in (None, "attention"):
            return "attention"
        raise AttentionError(
            f"heads={self.heads!r} and maps={self.maps!r}: contributions hold one map of all heads.",
            'Leave heads out, or read attention: maps="attention".',
        )

    def scores(self, source: AttentionStore, first: int = 0) -> Tensor:
        return self._of_read().score_part(source, first)

    def scored(self, call: Call, with_residual: bool) -> Scored:
        if not with_residual:
            return super().scored(call, with_residual)
        store = self.read(call)
        with torch.no_grad():
            scores, residual = self._of_read().score_with_residual(store)
        return Scored(scores, store.tokens, residual, store.metadata)

    def chain(self, store: AttentionStore) -> Chain:
        """Returns the chain that this method reads: (batch, token, token)."""
        return self._chain(store, self.tokens, self.direction)

    def _chain(self, store: AttentionStore, tokens: TokenSelection, direction: Direction, sink: Sink = "drop") -> Chain:
        check_store(store)
        chosen = settings_of(self, store)
        return store.chain(
            chosen.layers,
            self.heads,
            tokens=tokens,
            direction=direction,
            sink=sink,
            balanced=chosen.balanced,
            layer_weights=chosen.layer_weights,
        )

    def _of_read(self) -> Self:
        """Returns the method for a store from `read`, which holds the chosen layers alone, under other numbers."""
        return self if self.layers is None else self.changed(layers="all")


class ChainAttribution(AttentionAttribution, ABC):
    """A method that reads the chain of a store, and the store by nothing else: the mean of the layers will do for it."""

    allows_padding: ClassVar[bool] = True

    @property
    def _kept(self) -> Literal["auto"] | LayerMean:
        every = self.tokens is None or (isinstance(self.tokens, str) and self.tokens == "all")
        if not every or not isinstance(self.heads, str) or self.heads != "mean":
            return "auto"
        return LayerMean(_rule(settings_for(self, "decoder")), _rule(settings_for(self, "encoder")))


def _rule(chosen: Settings) -> LayerRule | None:
    """Returns the rule by which the layers of a text are added up as they come; None where they are needed apart."""
    weights = chosen.layer_weights
    if not (isinstance(chosen.layers, str) and chosen.layers == "all") or not isinstance(weights, str):
        return None
    return "mean" if weights == "mean" else "late" if weights == "late" else None
