"""Metastable states as the explorer colours them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from attnchain_interp.chain.metastable import coarse_grained_stationary, metastable_states
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.reading import WEIGHTINGS, Floats, Reading

MOST: Final = 512  # states of the chain, above which a Schur decomposition takes many seconds


def regions(reading: Reading, means: Floats) -> tuple[list[dict[str, Any]], Floats]:
    """What is known of the metastable states under each weighting, and the shares (state, weighting's states …) of each.

    Of the mean over all layers. Where there are none to show, the reason is in the place of their weights.

    Args:
        reading: the example.
        means: (weighting, layer, token, state) of it.
    """
    described, columns = [], [np.zeros((len(reading.states), 0), dtype=np.float32)]
    for heads, transitions in zip(WEIGHTINGS, means.mean(1), strict=True):
        if len(reading.states) > MOST:
            described.append({"heads": heads, "missing": f"not computed for more than {MOST} tokens"})
            continue
        chain = reading.square(transitions)
        try:
            shares = metastable_states(chain, damping=reading.damping)
            weight = coarse_grained_stationary(chain, shares, reading.damping)
        except AttentionError as error:
            described.append({"heads": heads, "missing": str(error)})
            continue
        described.append({"heads": heads, "weights": weight.tolist()})
        columns.append(shares.float().numpy()[reading.states])
    return described, np.concatenate(columns, 1)
