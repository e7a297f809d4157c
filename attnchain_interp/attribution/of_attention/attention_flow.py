"""Attention flow: the maximum flow from the output to each input token."""

from __future__ import annotations

from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.rollout import layers_downward
from attnchain_interp.chain.maximum_flow import maximum_flow
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, start_distribution
from attnchain_interp.store.tokens import TokenSelection

MAX_WORK: Final = 10**10  # edges of all flow problems together
PER_SECOND: Final = 1.5e7  # of them, on one core


@final
class AttentionFlow(AttentionAttribution):
    """The maximum flow from a start token above the last layer to each token of the input, capacities Â = (A + I) / 2.

    Rollout multiplies the weights along a path and adds the paths. The narrowest edge of each path limits a flow, and paths
    share their edges. Each token is a flow problem of its own: scores lie between 0 and 1 and do not sum to one. (The
    published code divides the scores by their sum, which keeps their order.)

    Cost: a flow for every token on a graph of layers × tokens² edges, in total proportional to tokens³. It runs on the CPU, by
    scipy: seconds for an image of 197 tokens.

    Args:
        forward_func: see `AttentionAttribution`.
        start: see `MultiBounce`.
        layers, heads, tokens: see `AttentionAttribution`; every layer and every token by default. Layers are taken in the
            order of the model.

    Raises:
        AttentionError: on attribution, for more than 10¹⁰ edges in all flow problems together.

    Source: Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020.
    """

    has_start: ClassVar[bool] = True

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
        names = layers_downward(store, self.layers)
        self._check_work(store, len(names))
        chains = [store.chain(name, self.heads, self.tokens) for name in names]
        states = chains[0].states
        start = start_distribution(chains[0], store.tokens, self.start)
        maps = torch.stack([chain.matrix for chain in chains], -3)
        capacities = (maps + torch.eye(len(chains[0]), dtype=maps.dtype, device=maps.device)) / 2
        problems = zip(capacities.flatten(0, -4), start.flatten(0, -2), states.flatten(0, -2), strict=True)
        return torch.stack([maximum_flow(*problem) for problem in problems]).reshape(states.shape)

    def _check_work(self, store: AttentionStore, layers: int) -> None:
        counts = store.tokens.select(self.tokens).sum(1)
        heads = store[0].heads if self.heads == "each" else 1
        work = heads * layers * int((counts**3).sum())
        if work > MAX_WORK:
            raise AttentionError(
                f"attention flow on {store.batch * heads} graphs of {layers} layers, up to {int(counts.max())} tokens, takes"
                f" {work:.1e} edges in all, about {work / PER_SECOND / 60:.0f} minutes; refused over {MAX_WORK:.0e}.",
                "Take fewer examples at a time (internal_batch_size=…), fewer layers=… or tokens=… (the cost grows as tokens³)"
                ", or take Rollout, which needs one pass.",
            )
