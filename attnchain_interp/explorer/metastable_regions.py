"""Metastable states as the explorer colours them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from attnchain_interp.chain.metastable import coarse_grained_stationary, metastable_states
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.encoding import Floats
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.store.head_weights import NAMED_WEIGHTS

MOST: Final = 512  # states of the chain, above which a Schur decomposition takes many seconds


def metastable_regions(chains: ExampleChains, means: Floats) -> tuple[list[dict[str, Any]], Floats]:
    """Returns the metastable states of the mean over all layers: their weights, and the shares (state, region) in them.

    The regions of the weightings of heads stand side by side. A weighting without regions has the reason instead of weights.

    Args:
        chains: the example.
        means: its maps (weighting, layer, token, state).
    """
    described, columns = [], [np.zeros((len(chains.states), 0), dtype=np.float32)]
    for heads, transitions in zip(NAMED_WEIGHTS, means.mean(1), strict=True):
        if len(chains.states) > MOST:
            described.append({"heads": heads, "missing": f"not computed for more than {MOST} tokens"})
            continue
        chain = chains.chain(transitions)
        try:
            shares = metastable_states(chain, damping=chains.damping)
            weight = coarse_grained_stationary(chain, shares, chains.damping)
        except AttentionError as error:
            described.append({"heads": heads, "missing": str(error)})
            continue
        described.append({"heads": heads, "weights": weight.tolist()})
        columns.append(shares.float().numpy()[chains.states])
    return described, np.concatenate(columns, 1)
