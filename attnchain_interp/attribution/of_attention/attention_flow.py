"""Attention flow: the maximum flow from the output to each input token."""

from __future__ import annotations

from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.rollout import layers_downward, residual_of
from attnchain_interp.capture import Maps
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import AttentionStore, Heads, LayerSelection, Start, TokenSelection, states_of
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.starts import start_distribution

MAX_WORK: Final = 10**10  # edges of all flow problems together
SCALE: Final = 2**30  # capacity 1; scipy's capacities are int32, and a row sums to one
PER_SECOND: Final = 1.5e7  # of them, on one core


@final
class AttentionFlow(AttentionAttribution):
    """The maximum flow from a start token above the last layer to each token of the input, capacities Â = (A + I) / 2.

    Contributions that hold the residual connection, all but "norm", are capacities as they are.

    Rollout multiplies the weights along a path and adds the paths. The narrowest edge of each path limits a flow, and paths
    share their edges. Each token is a flow problem of its own: scores lie between 0 and 1 and do not sum to one. (The
    published code divides the scores by their sum, which keeps their order.)

    Cost: a flow for every token on a graph of layers × tokens² edges, in total proportional to tokens³. It runs on the CPU, by
    scipy: seconds for an image of 197 tokens.

    Args:
        forward_func: see `AttentionAttribution`.
        start: see `MultiBounce`.
        layers, heads, tokens, maps: see `AttentionAttribution`; every layer and every token by default. Layers are taken in
            the order of the model.

    Raises:
        AttentionError: on attribution, for more than 10¹⁰ edges in all flow problems together.

    Source: Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020.
    """

    has_start: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        start: Start | None = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
        maps: Maps = "attention",
    ) -> None:
        super().__init__(
            forward_func, layers=layers, heads=heads, tokens=tokens, layer_weights="mean", balanced=False, maps=maps
        )
        self.start = start

    def score(self, store: AttentionStore) -> Tensor:
        check_store(store)
        layers = settings_of(self, store).layers
        names, chosen = layers_downward(store, layers), states_of(store, self.tokens, layers)
        self._check_work(store, len(names), chosen.sum(1))
        chains = [store.chain(name, self.heads, tokens=chosen) for name in names]
        states = chains[0].states
        start = start_distribution(chains[0], store.tokens, self.start)
        maps, residual = torch.stack([chain.matrix for chain in chains], -3), residual_of(store)
        capacities = (1 - residual) * maps + residual * torch.eye(len(chains[0]), dtype=maps.dtype, device=maps.device)
        problems = zip(capacities.flatten(0, -4), start.flatten(0, -2), states.flatten(0, -2), strict=True)
        return torch.stack([maximum_flow(*problem) for problem in problems]).reshape(states.shape)

    def _check_work(self, store: AttentionStore, layers: int, counts: Tensor) -> None:
        heads = store[0].heads if self.heads == "each" else 1
        work = heads * layers * int((counts**3).sum())
        if work > MAX_WORK:
            raise AttentionError(
                f"attention flow on {store.batch * heads} graphs of {layers} layers, up to {int(counts.max())} tokens, takes"
                f" {work:.1e} edges in all, about {work / PER_SECOND / 60:.0f} minutes; refused over {MAX_WORK:.0e}.",
                "Take fewer examples at a time (internal_batch_size=…), fewer layers=… or tokens=… (the cost grows as tokens³)"
                ", or take Rollout, which needs one pass.",
            )


@torch.no_grad()
def maximum_flow(capacities: Tensor, start: Tensor, targets: Tensor) -> Tensor:
    """Returns the maximum flow from the start, above the first layer, to each target token (token,), below the last layer.

    The graph has every token above each layer and below the last. An edge of capacity `capacities[l, i, j]` leads from token
    i above layer l to token j below it. A source feeds token i above the first layer with `start[i]`. Each target is a
    problem of its own, so flows do not sum to one. With one layer and one start token the flow is the row of that token.

    scipy's solver counts in whole numbers: capacities are rounded to multiples of 2⁻³⁰, and the error of a flow is at most
    2⁻³¹ for each edge of its minimum cut.

    Args:
        capacities: (layer, token, token), rows sum to one, the layer nearest to the start first.
        start: (token,), a distribution.
        targets: (token,) bool. The flow to the other tokens is 0.

    Source: Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020; Dinic's algorithm, by scipy.

    >>> P = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    >>> maximum_flow(torch.stack([P, P]), torch.tensor([1.0, 0.0]), torch.tensor([True, True]))
    tensor([0.7500, 1.0000])
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow as solve

    layers, n, _ = capacities.shape
    units = (capacities.double().cpu() * SCALE).round().int().numpy()
    layer, row, column = units.nonzero()
    fed = (start.double().cpu() * SCALE).round().int().numpy()
    above = 1 + layer * n  # node 0 is the source
    tails = np.concatenate([np.zeros(n, int), above + row])
    heads = np.concatenate([1 + np.arange(n), above + n + column])
    nodes = 1 + (layers + 1) * n
    graph = csr_array((np.concatenate([fed, units[layer, row, column]]), (tails, heads)), shape=(nodes, nodes), dtype=np.int32)
    graph.eliminate_zeros()
    flows = torch.zeros(n, dtype=torch.float64, device="cpu")
    for target in targets.cpu().nonzero()[:, 0].tolist():
        flows[target] = solve(graph, 0, 1 + layers * n + target).flow_value / SCALE
    return flows.to(capacities)
