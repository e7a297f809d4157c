"""Maximum flow through the layers of a transformer, with the map of each layer as the capacities of its edges."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

SCALE: Final = 2**30  # capacity 1; scipy's capacities are int32, and a row sums to one


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
    flows = torch.zeros(n, dtype=torch.float64)
    for target in targets.cpu().nonzero()[:, 0].tolist():
        flows[target] = solve(graph, 0, 1 + layers * n + target).flow_value / SCALE
    return flows.to(capacities)
