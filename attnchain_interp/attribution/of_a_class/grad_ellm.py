"""Grad-ELLM: how much a token's values raise the logit at the position that predicts it, weighted by queries and keys."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import LayerSelection, Start


@final
class GradELLM(AttentionGradientAttribution):
    """Σ_l ReLU(Σ_c w_c v_jc) λ_j: w is the gradient at the mixed values of the start token, v_j are the values of token j.

    Channels c are those of all heads, before the output projection. λ_j = Φ(q · k_j), where q is the query of the start token
    and k_j a key, over all heads. Φ brings the numbers of a row to 0 … 1 (the least is 0, the greatest is 1), which is looser
    than a softmax. Both are computed from maps: Σ_c w_c v_jc is Σ_h ∂s/∂A^h_j of the start token's row, and q · k_j is
    Σ_h log A^h_j up to a constant, which Φ takes away. One forward and one backward.

    Args:
        forward_func: see `AttentionGradientAttribution`.
        start: see `MultiBounce`. In `attribute_text` the position that predicts the output token.
        layers: see `AttentionGradientAttribution`. The paper sums the last ones.

    Source: Huang & Chan, *Grad-ELLM: Gradient-based Explanations for Decoder-only LLMs*, 2026, after Zhao et al.,
    *Gradient-based Visual Explanation for Transformer-based CLIP*, ICML 2024. Queries and keys are those that attention
    multiplies, with rotary positions.
    """

    has_start: ClassVar[bool] = True

    def __init__(self, forward_func: Any = None, start: Start | None = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func, layers)
        self.start = start

    def relevance(self, found: AttentionGradients) -> Tensor:
        start = start_row(found, self.start)[:, None, None]
        total = found[0][0].new_zeros(())
        for maps, gradients in found:
            row, raised = ((start.to(part) @ part)[:, :, 0] for part in (maps, gradients))
            total = total + raised.sum(1).relu() * _loosened(row)
        return total


def _loosened(row: Tensor) -> Tensor:
    """Returns the logits of a row of maps (batch, head, token), summed over heads and brought to 0 … 1: (batch, token)."""
    seen = (row > 0).any(1)
    logits = row.clamp_min(torch.finfo(row.dtype).tiny).log().sum(1)
    least = logits.masked_fill(~seen, torch.inf).amin(-1, keepdim=True)
    span = logits.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True) - least
    return ((logits - least) / torch.where(span > 0, span, 1)).masked_fill(~seen, 0)
