"""Gradient attention: the generic relevance of Chefer, Gur and Wolf, for self-attention."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from attnchain_interp.attribution.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.layers import LayerSelection
from attnchain_interp.start import Start


@final
class GradientAttention(AttentionGradientAttribution):
    """The row of a start token in R = (I + Ā_L) · · · (I + Ā_1), where Ā = mean_h ReLU(∇A ⊙ A).

    R ← R + Ā R from the first layer to the last: what reaches the start token from each input token, through attention that
    speaks for the target and through the residual connection, whose weight is one. No product of layers is built: the row is
    passed down. The start token's own score holds the 1 of the residual path. One forward and one backward.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`.
        start: as in `MultiBounce`; None means the class token where there is one, else uniform. Of a decoder's next token, the
            position that predicts it.

    Raises:
        AttentionError: on attribution, for a start that does not exist, and as `capture_gradients`.

    Source: Chefer, Gur & Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers*, ICCV 2021, equations 5 and 6.
    """

    def __init__(self, forward_func: Any = None, start: Start | None = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func, layers)
        self.start = start

    def relevance(self, found: AttentionGradients) -> Tensor:
        row = start_row(found, self.start)[:, None]
        for maps, gradients in reversed(found):
            row = row + row @ (gradients * maps).relu().mean(1)
        return row[:, 0]
