"""Rollouts that read gradients: weighted entry by entry, head by head, or in the last layer alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import (
    AttentionGradientAttribution,
    start_of,
    start_row,
)
from attnchain_interp.attribution.of_attention.rollout import rolled_out
from attnchain_interp.attribution.worse_than_random import warn_of_decoder
from attnchain_interp.chain import Chain
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import LayerSelection, Start
from attnchain_interp.store.starts import CLASS_OR_UNIFORM


@final
class GradientRollout(AttentionGradientAttribution):
    """The row of a start token in Â_L · · · Â_1, where Â is ReLU(mean_h(A ⊙ ∇A)) + I with rows that sum to one.

    Heads are averaged with their signs before the ReLU. The rows are normalised after the identity is added, so the result
    depends on the scale of the score: the steeper the gradient, the further the walk moves. The scores of an example sum to
    one. One forward and one backward.

    Args:
        forward_func, layers: see `AttentionGradientAttribution`.
        start: see `MultiBounce`. The default means the class token, and "uniform" where there is none, also in a decoder.

    Source: Gildenblat, *Exploring Explainability for Vision Transformers*, 2020 (`vit-explain`, "gradient attention rollout"),
    after Abnar & Zuidema 2020; here for every example of a batch, with gradients in the order of the layers, and nothing
    discarded.
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self, forward_func: Any = None, *, start: Start | None = CLASS_OR_UNIFORM, layers: LayerSelection = "all"
    ) -> None:
        super().__init__(forward_func, layers=layers)
        self.start = start

    def relevance(self, found: AttentionGradients) -> Tensor:
        row = start_row(found, self.start)[:, None]
        for maps, gradients in reversed(found):
            evidence = (maps * gradients).mean(1).relu()
            row = row / (1 + evidence.sum(-1))[:, None]
            row = row + row @ evidence
        return row[:, 0]


@final
class GMAR(AttentionGradientAttribution):
    """Rollout of A_l = Σ_h w_h A_h with weights w_h = ‖∇A_h‖ / Σ_g ‖∇A_g‖ within each layer.

    The score is the row of a start token in Â_L · · · Â_1, Â = (A + I) / 2. The target enters through the weights of the heads
    alone, without a sign. The scores of an example sum to one. One forward and one backward. On facts, with SmolLM2, it ranks
    tokens worse than a random order does (docs/real-text.md), and warns of that once in a decoder.

    Args:
        forward_func, layers: see `AttentionGradientAttribution`.
        norm: "l1", the sum of the gradient's absolute values, or "l2", the root of the sum of their squares.
        start: see `MultiBounce`.

    Raises:
        AttentionError: at once, for another norm.

    Source: Jo, Jang & Park, *GMAR: Gradient-Driven Multi-Head Attention Rollout for Vision Transformer Interpretability*,
    2025.
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        norm: Literal["l1", "l2"] = "l1",
        start: Start | None = None,
        layers: LayerSelection = "all",
    ) -> None:
        check_one_of("norm", norm, ("l1", "l2"))
        super().__init__(forward_func, layers=layers)
        self.norm, self.start = norm, start

    def relevance(self, found: AttentionGradients) -> Tensor:
        warn_of_decoder(self, found.store)

        def weighted(layer: int) -> Chain:
            _, gradients = found[layer]
            norms = torch.linalg.vector_norm(gradients, int(self.norm[1]), (-2, -1))
            return found.store.chain(layer, heads=lambda _: norms, tokens="all")

        return rolled_out(map(weighted, reversed(range(len(found)))), found.tokens, start_of(found, self.start))


@final
class TransitionAttentionMaps(AttentionGradientAttribution):
    """e A_L (A_{L−1} + I) · · · (A_1 + I) / 2^{L−1}, token by token times e mean_h ReLU(∫₀¹ ∇A_L(α x) dα).

    A walk leaves the start token e by the mean over the heads of the last layer. At each earlier layer it stays with
    probability one half. The probability that it ends at a token is weighted by the positive part of the integrated gradient
    of the last layer's map. The integral is the mean over `steps` inputs α x, α from 0 to 1 (both included). One forward and
    one backward a step.

    Args:
        forward_func, layers: see `AttentionGradientAttribution`. The authors leave out the first third of the layers.
        steps: the number of points of the integral, 2 or more. `score` takes the gradients as they come.
        start: see `MultiBounce`.

    Raises:
        AttentionError: at once, for fewer than two steps; on attribution, for inputs that cannot be scaled (token ids).

    Source: Yuan, Li, Xiong & Dou, *Explaining Information Flow Inside Vision Transformers Using Markov Chain*,
    XAI4Debugging workshop at NeurIPS 2021, and its published code.
    """

    reads_embeddings: ClassVar[bool] = True
    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self, forward_func: Any = None, *, steps: int = 20, start: Start | None = None, layers: LayerSelection = "all"
    ) -> None:
        check_whole_number("steps", steps, "the number of points of the integral from 0 to 1, which has two ends", 2)
        super().__init__(forward_func, layers=layers)
        self.steps, self.start = steps, start

    def read(self, call: Call) -> AttentionGradients:
        if not call.inputs.is_floating_point():
            raise AttentionError(
                f"inputs is {call.inputs.dtype}; the integral is over scaled inputs, and token numbers cannot be scaled.",
                "Pass images or embeddings.",
            )
        found = super().read(call)
        last, total = found.store.names[-1], found.gradient(-1)
        for alpha in torch.linspace(0, 1, self.steps, dtype=torch.float32, device="cpu")[:-1].tolist():
            total = total + self.captured(call._replace(inputs=alpha * call.inputs), last).gradient(0)
        return replace(found, gradients=[*found.gradients[:-1], total / self.steps])

    def relevance(self, found: AttentionGradients) -> Tensor:
        start = start_row(found, self.start)
        row = found.store.chain(-1, tokens="all").step(start)
        for layer in reversed(range(len(found) - 1)):
            row = torch.lerp(row, found.store.chain(layer, tokens="all").step(row), 0.5)
        _, gradients = found[-1]
        return row * (start[:, None] @ gradients.relu().mean(1))[:, 0]
