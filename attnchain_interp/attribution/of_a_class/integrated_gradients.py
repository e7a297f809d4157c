"""Integrated gradients of embeddings and images, summed by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from captum.attr import GradientAttribution
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from attnchain_interp.attribution.embeddings import changed_embeddings, embedding_of, mean_embedding
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_ablation import TargetScore, check_removal, score_of, single_target
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution
from attnchain_interp.attribution.token_inputs import (
    by_token,
    called,
    check_own_tokens,
    examples_of,
    module_inside,
    own_call,
    tower_of,
)
from attnchain_interp.capture import capture
from attnchain_interp.capture.plain_run import plain_run
from attnchain_interp.checks import check_whole_number
from attnchain_interp.gradients.differentiable_maps import check_differentiable, derivatives, no_gradient
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.store import TokenLayout
from attnchain_interp.store.patches_on_pixels import check_same_image


@final
class IntegratedGradients(TokenAttribution, GradientAttribution):
    """(x − b) ⊙ ∫₀¹ ∇s(b + α (x − b)) dα, summed over the embedding x of a token or over the pixels of a patch.

    The baseline b of each token is the mean embedding of the vocabulary; that of an image is its mean colour. The points of
    the integral are Gauss–Legendre's, as in Captum. Scores have a sign. They add up to the score's change from the baseline.
    A token of an image within a text has no embedding of its own, and scores 0. `attribute_text` explains each output token
    over its own context. `n_steps` forwards and backwards.

    Args:
        forward_func: a model that an adapter recognises. A model of token numbers names its embeddings.
        n_steps: the number of points of the integral.
        score: see `TokenAblation`.
        internal_steps: how many of these points are rows of one forward.

    Raises:
        AttentionError: at once, for another score or number; on attribution, a model without `get_input_embeddings`, a
            function as target whose score of an example depends on other examples of the batch, and the errors of
            `capture_gradients`.

    Source: Sundararajan, Taly & Yan, *Axiomatic Attribution for Deep Networks*, ICML 2017.
    """

    explains_target: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True

    def __init__(
        self, forward_func: Any, *, n_steps: int = 50, score: TargetScore = "log-probability", internal_steps: int = 8
    ) -> None:
        check_whole_number("n_steps", n_steps, "the number of points of the integral")
        check_whole_number("internal_steps", internal_steps, "how many points are run at a time")
        check_removal(None, score)
        super().__init__(forward_func)
        self.n_steps, self.internal_steps = n_steps, internal_steps
        self.score: TargetScore = score

    def read(self, call: Call) -> Scored:
        """Returns the scores of some examples, one after another."""
        found = [self._of_one(part) for part in examples_of(self.forward_func, call)]
        first = found[0][1]
        layout = TokenLayout(torch.cat([tokens.roles for _, tokens, _ in found]), first.grid)
        return Scored(torch.cat([scores for scores, *_ in found]), layout, metadata=found[0][2])

    def _of_one(self, call: Call) -> tuple[Tensor, TokenLayout, dict[str, str]]:
        model, target = module_inside(self.forward_func), single_target(call.target)
        check_differentiable(model)
        positional, named = call.arguments(self.forward_func)
        store = capture(self.forward_func, *positional, layers=-1, **named)
        check_own_tokens(store)
        given, own = call.inputs.detach(), own_call(model, call)

        def score(changed: Tensor) -> Tensor:
            if given.is_floating_point():
                return score_of(called(model, own, changed), target, len(changed), self.score)
            with changed_embeddings(embedding, lambda _: changed):
                return score_of(called(model, own, given.expand(len(changed), -1)), target, len(changed), self.score)

        if given.ndim == 4:
            check_same_image(store.metadata, given)
            inputs, baseline = given, given.mean((2, 3), keepdim=True).expand_as(given)
        else:
            embedding = embedding_of(model, tower_of(call))
            inputs = given if given.is_floating_point() else embedding(given).detach()
            baseline = mean_embedding(embedding, inputs.device).expand_as(inputs)

        with plain_run(model):
            return by_token(self._integral(score, inputs, baseline), store), store.tokens, store.metadata

    def _integral(self, score: Callable[[Tensor], Tensor], inputs: Tensor, baseline: Tensor) -> Tensor:
        """Returns (x − b) ⊙ ∫₀¹ ∇s(b + α (x − b)) dα of one example, in float32 or wider."""
        start, change = float32_or_wider(baseline), float32_or_wider(inputs) - float32_or_wider(baseline)
        nodes, weights = (torch.from_numpy(part).to(change) / 2 for part in leggauss(self.n_steps))
        total = torch.zeros_like(change[0])
        for some, weight in zip((nodes + 0.5).split(self.internal_steps), weights.split(self.internal_steps), strict=True):
            with torch.enable_grad():
                points = torch.stack([(start + alpha * change)[0] for alpha in some]).to(inputs.dtype).requires_grad_()
                (gradients,) = derivatives(score(points), [points])
            if gradients is None:
                raise no_gradient()
            total += torch.tensordot(weight, float32_or_wider(gradients), 1)
        return total * change
