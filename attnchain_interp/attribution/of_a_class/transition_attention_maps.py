"""Transition attention maps: a chain over the layers, times the integrated gradient of the last."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.attribution.token_attribution import Call
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start


@final
class TransitionAttentionMaps(AttentionGradientAttribution):
    """e A_L (A_{L−1} + I) · · · (A_1 + I) / 2^{L−1}, token by token times e mean_h ReLU(∫₀¹ ∇A_L(α x) dα).

    A walk leaves the start token e by the last layer's heads' mean and at each earlier layer stays with probability one half;
    where it ends is weighted by the positive part of the integrated gradient of the last layer's map. The integral is the mean
    over `steps` inputs α x, α from 0 to 1 (both included). One forward and one backward a step.

    Args:
        forward_func, layers: as in `AttentionGradientAttribution`; the authors leave out the first third of the layers.
        steps: of the integral, 2 or more. `score` takes the gradients that it is given.
        start: as in `MultiBounce`.

    Raises:
        AttentionError: on attribution, for a start that does not exist, inputs that are not floating point and cannot be
            scaled, and as `capture_gradients`; at once, for fewer than two steps.

    Source: Yuan, Li, Xiong & Dou, *Explaining Information Flow Inside Vision Transformers Using Markov Chain*,
    XAI4Debugging workshop at NeurIPS 2021, and its published code.
    """

    def __init__(
        self, forward_func: Any = None, steps: int = 20, start: Start | None = None, layers: LayerSelection = "all"
    ) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
            raise AttentionError(f"steps is {steps!r}; the integral from 0 to 1 needs at least its two ends: 2, 3, … (20).")
        super().__init__(forward_func, layers)
        self.steps, self.start = steps, start

    def gradients(self, call: Call) -> AttentionGradients:
        if not call.inputs.is_floating_point():
            raise AttentionError(
                f"inputs is {call.inputs.dtype}; the integral is over scaled inputs, and token numbers cannot be scaled. Pass"
                " images or embeddings."
            )
        found = super().gradients(call)
        last, total = found.store.names[-1], found.gradients[-1]
        for alpha in torch.linspace(0, 1, self.steps)[:-1].tolist():
            total = total + self.captured(call._replace(inputs=alpha * call.inputs), last).gradients[0]
        return AttentionGradients(found.store, [*found.gradients[:-1], total / self.steps])

    def relevance(self, found: AttentionGradients) -> Tensor:
        start = start_row(found, self.start)
        row = found.store.chain(-1, tokens="all").step(start)
        for layer in reversed(range(len(found) - 1)):
            row = torch.lerp(row, found.store.chain(layer, tokens="all").step(row), 0.5)
        _, gradients = found[-1]
        return row * (start[:, None] @ gradients.relu().mean(1))[:, 0]
