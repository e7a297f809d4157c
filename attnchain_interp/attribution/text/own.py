"""The scores that the positions at which walks start give themselves. See `TextAttributionResult.own`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnchain_interp.attribution.method import Method
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import AttentionStore, Start
from attnchain_interp.store.starts import CLASS_OR_UNIFORM, start_distribution


def own_of_output(scores: Tensor, prompt: int) -> Tensor:
    """Returns the scores (output token, token of the prompt) that the position before an output token gives itself."""
    own = torch.zeros_like(scores[:, :prompt])
    own[0, -1] = scores[0, prompt - 1]
    return own


def own_of_class(method: Method, source: Any, scores: Tensor) -> Tensor | None:
    """Returns the score (1, token) that the one token gives itself at which walks start; None where they start at several.

    Args:
        method: of which the scores are, as it is set up: at the class token, or at the last token of a decoder.
        source: what the method read of a model that outputs no text.
        scores: (1, token).
    """
    if not isinstance(source, AttentionStore | AttentionGradients):
        return None
    start: Start | None = getattr(method, "start", None) if method.has_start else "last"
    read = None
    if isinstance(source, AttentionGradients):
        source = source.context()
        read, source = source.read[0].to(scores.device), source.store
    if not method.has_start and not (source.causal and method.walks_from_position(None)):
        return None
    begins = start_distribution(source.chain(-1, tokens="all"), source.tokens, start)[0].to(scores.device) > 0
    by_default = start is None or (isinstance(start, str) and start == CLASS_OR_UNIFORM)
    if by_default and read is not None and not bool((begins & read).any()):
        begins = read  # not at a class token that the target does not read
    return scores * begins if int(begins.sum()) == 1 else None
