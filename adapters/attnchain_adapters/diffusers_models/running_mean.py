"""The mean of attention maps over heads, layers and sampling steps, held as one map."""

from __future__ import annotations

from typing import final, get_args

import torch
from torch import Tensor

from attnchain_interp import AttentionError, Factors, second_eigenvalue
from attnchain_interp.capture import Shown
from attnchain_interp.checks import check_one_of
from attnchain_interp.diffusion import HeadWeighting
from attnchain_interp.store import eigenvalue_weights


@final
class RunningMean:
    """Adds up the attention of layer after layer, head by head.

    One head's map is built at a time. The heads of a layer are weighted; all layers and steps have the same weight.

    Attributes:
        layers: the names of the layers that are taken; others are ignored.
        examples: which examples of the batch are kept.
        tokens: the numbers of queries and keys that the inputs say; None where they say nothing.
        sums: (example, query, key) float32 by layer, or under the name "mean" where layers are averaged too.
        counts: how many maps a sum holds.
        taken: the layers that were taken since `next_forward`.
    """

    def __init__(self, heads: HeadWeighting, each_layer: bool) -> None:
        check_one_of("heads", heads, get_args(HeadWeighting))
        self.layers: frozenset[str] = frozenset()
        self.examples = slice(None)
        self.tokens: tuple[int, int] | None = None
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self._heads, self._each_layer = heads, each_layer
        self.taken: set[str] = set()

    def next_forward(self) -> None:
        """Forgets which layers were taken. Called before each forward."""
        self.taken.clear()

    def take(self, name: str, shown: Shown) -> None:
        """Adds one layer.

        Raises:
            AttentionError: a layer that attends twice in one forward, among other tokens, or whose map changes its size.
        """
        if name not in self.layers:
            return
        if name in self.taken:
            raise AttentionError(
                f"layer {name!r} computes attention twice in one forward (an adapter of images, perturbed attention,"
                " self-attention guidance, or attention in slices), and its maps cannot be told apart.",
                "Remove the adapter, turn the guidance off, or call pipe.disable_attention_slicing().",
            )
        self.taken.add(name)
        here = queries, keys = tuple(shown.attention.shape[-2:])
        said = self.tokens or here
        if here != said:
            raise AttentionError(
                f"layer {name!r} attends from {queries} to {keys} tokens, not from {said[0]} to {said[1]} as its inputs say:"
                " its processor merges, cuts or shares tokens.",
                "Use diffusers' own processors, set_default_attn_processor(), or name other layers: layers=[…].",
            )
        mean, key = self._over_heads(shown.attention), name if self._each_layer else "mean"
        if key in self.sums and self.sums[key].shape != mean.shape:
            raise AttentionError(
                f"the maps change from {tuple(self.sums[key].shape)} to {tuple(mean.shape)} (example, query, key) while"
                " sampling.",
                "Capture each size by itself: kind=…, grid=…, steps=….",
            )
        self.sums[key] = self.sums[key].add_(mean) if key in self.sums else mean
        self.counts[key] = self.counts.get(key, 0) + 1

    def _over_heads(self, attention: Tensor | Factors) -> Tensor:
        batch, heads, queries, keys = attention.shape
        batch = len(range(batch)[self.examples])
        total = torch.zeros(batch, queries, keys, device=attention.device)
        weights = total.new_zeros(batch)
        for head in range(heads):
            part = attention.heads(slice(head, head + 1)) if isinstance(attention, Factors) else attention[:, head : head + 1]
            chosen = (part.maps() if isinstance(part, Factors) else part)[self.examples, 0].float()
            weight = self._weight(chosen)
            weights += weight
            total.addcmul_(chosen, weight[:, None, None])
        return total.div_(weights[:, None, None])

    def _weight(self, maps: Tensor) -> Tensor:
        if self._heads == "mean":
            return maps.new_ones(len(maps))
        if maps.shape[-1] != maps.shape[-2]:
            raise AttentionError(f'heads="{self._heads}" needs chains, and this is cross-attention.', 'Use heads="mean".')
        return eigenvalue_weights(second_eigenvalue(maps), self._heads)
