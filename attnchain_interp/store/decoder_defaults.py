"""The default damping of TokenRank, in decoders and elsewhere. docs/text-defaults.md says how the defaults were chosen.

Traces, `attnchain_adapters.tracing`, import torch alone, so they repeat the two numbers; a test compares them.
"""

from __future__ import annotations

from typing import Final

DAMPING: Final = 0.99
DECODER_DAMPING: Final = 0.5


def default_damping(jumps_to_last: bool) -> float:
    """Returns the default probability that the walk follows attention rather than jumps.

    Args:
        jumps_to_last: whether jumps lead to the last state, as they do in a decoder by default. Else jumps lead everywhere.
    """
    return DECODER_DAMPING if jumps_to_last else DAMPING
