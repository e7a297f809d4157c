"""Attention rollout: one step through every layer, from the last to the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.attention_attribution import AttentionAttribution
from attnchain_interp.chain import Chain
from attnchain_interp.layers import LayerSelection
from attnchain_interp.start import Start, start_distribution
from attnchain_interp.store import AttentionStore
from attnchain_interp.tokens import TokenLayout, TokenSelection
from attnchain_interp.weighting import Heads


@final
class Rollout(AttentionAttribution):
    """The row of a start token in Â_L · · · Â_1, where Â = (A + I) / 2 is a layer's map with its residual connection.

    A walk that at each layer, the last first, stays with probability one half and else follows attention; what it finds
    at the input is the score. No layer product is built: the start row is passed down.

    Args:
        forward_func: as in `AttentionAttribution`.
        start: as in `MultiBounce`; None means the class token where there is one, else uniform.
        layers, heads, tokens: as in `AttentionAttribution`; every layer and every token by default. Layers are taken in
            the order of the model.

    Raises:
        AttentionError: on attribution, for a start that does not exist, and as `capture`.

    Source: Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020.
    """

    def __init__(
        self,
        forward_func: Any = None,
        start: Start | None = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
    ) -> None:
        super().__init__(forward_func, layers, heads, tokens)
        self.start = start

    def score(self, store: AttentionStore) -> Tensor:
        chosen = {layer.name for layer in store.select(self.layers)}
        order = [name for name in reversed(store.names) if name in chosen]
        return rolled_out((store.chain(name, self.heads, self.tokens) for name in order), store.tokens, self.start)


def rolled_out(chains: Iterable[Chain], tokens: TokenLayout, start: Start | None) -> Tensor:
    """Where a walk from `start` is after one step of each chain, (…, token), if at each it stays with probability one half."""
    row = None
    for chain in chains:
        row = start_distribution(chain, tokens, start) if row is None else row
        row = torch.lerp(row, chain.step(row), 0.5)
    assert row is not None, "a selection of layers is never empty"  # noqa: S101
    return row
