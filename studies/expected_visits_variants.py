"""Variants of ExpectedVisits for validation images: the same walk with one choice changed."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionGradientAttribution, Chain
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import start_row
from attnchain_interp.gradients import AttentionGradients


@final
class Walk(AttentionGradientAttribution):
    """e (I − Q)⁻¹ over evidence W, which is by default that of `ExpectedVisits`.

    Args:
        forward_func: a model, only where `steps` is above 1.
        rectify: where the ReLU is taken: "layers" (after their sum), "heads" (of the mean of each layer) or "entries" (at
            once).
        heads: the weights of the heads of a layer. See `head_weights`.
        divisor: the divisor of W. "greatest" is the greatest sum of a row, so that the walk ends where evidence is scarce.
            "rows" is the sum of each row, so that it ends everywhere with probability 1 − damping.
        damping: the probability of going on at the token with the most evidence.
        start: see `GradientAttention`.
        bounces: False stops after one step: eW.
        steps: of an integral of the gradient over inputs, from the mean colour of the image to the image.
    """

    def __init__(
        self,
        forward_func: Any = None,
        *,
        rectify: Literal["layers", "heads", "entries"] = "layers",
        heads: str = "mean",
        divisor: Literal["greatest", "rows"] = "greatest",
        damping: float = 0.99,
        start: Any = None,
        bounces: bool = True,
        steps: int = 1,
    ) -> None:
        super().__init__(forward_func)
        self.rectify, self.heads, self.divisor, self.damping = rectify, heads, divisor, damping
        self.start, self.bounces, self.steps = start, bounces, steps

    def read(self, call: Call) -> AttentionGradients:
        found = super().read(call)
        total, mean = [found.gradient(k) for k in range(len(found))], call.inputs.mean((2, 3), keepdim=True)
        for step in range(1, self.steps):
            part = self.captured(call._replace(inputs=torch.lerp(mean, call.inputs, step / self.steps)), self.layers or "all")
            total = [one + part.gradient(k) for k, one in enumerate(total)]
        return AttentionGradients(found.store, [gradients / self.steps for gradients in total])

    def relevance(self, found: AttentionGradients) -> Tensor:
        weights = self.evidence(found)
        start = start_row(found, self.start)
        if not self.bounces:
            return (start[:, None] @ weights)[:, 0]
        sums = weights.sum(-1, keepdim=True)
        divisor = sums.amax(-2, keepdim=True) if self.divisor == "greatest" else sums
        transitions = self.damping * weights / divisor.clamp_min(torch.finfo(weights.dtype).tiny)
        return ac.expected_visits(Chain(transitions, found.tokens.mask, absorbing=True, check=False), start)

    def evidence(self, found: AttentionGradients) -> Tensor:
        """Returns W (batch, query, key)."""
        weights = ac.head_weights(found.store, self.heads)
        total = torch.zeros(())
        for layer in range(len(found)):
            maps, gradients = found[layer]
            products = maps * gradients
            if self.rectify == "entries":
                products = products.relu()
            products = (weights[:, layer, :, None, None] * products).sum(1)
            total = total + (products.relu() if self.rectify == "heads" else products)
        return total.relu()


def variants(model: Any) -> dict[str, Any]:
    """Returns `ExpectedVisits`, and its variants with one choice changed."""
    return {
        "ExpectedVisits": ac.ExpectedVisits(),
        "ReLU by heads": Walk(rectify="heads"),
        "ReLU of every entry": Walk(rectify="entries"),
        "damping 0.5": Walk(damping=0.5),
        "each row by its own sum, damping 0.5": Walk(divisor="rows", damping=0.5),
        "each row by its own sum, damping 0.2": Walk(divisor="rows", damping=0.2),
        "one step": Walk(bounces=False),
        "started everywhere": Walk(start="uniform"),
        "heads by λ₂": Walk(heads="lambda2"),
        "gradient integrated over 5 inputs": Walk(model, steps=5),
        "GradientAttention": ac.GradientAttention(),
    }
