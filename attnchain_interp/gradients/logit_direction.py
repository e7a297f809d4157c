"""The direction of the residual stream along which a score grows, at the end of the last block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnchain_interp.capture import Reading, plain_run, uncompiled
from attnchain_interp.capture.reading import separated
from attnchain_interp.capture.source import module_of
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.block_replay import LayerOutputs
from attnchain_interp.gradients.differentiable_maps import check_differentiable
from attnchain_interp.gradients.relevance_rules import RelevanceRules
from attnchain_interp.gradients.target import SeveralScores, Target, selected_score


@in_turn
def logit_direction(
    model: Any,
    *inputs: Any,
    layers: Sequence[str],
    batch: int,
    target: Target = None,
    reading: Reading | None = None,
    **kwargs: Any,
) -> Tensor:
    """Returns d (batch, token, width): how the target's score grows with the tokens that the last block outputs.

    Where the head is a normalisation and a linear layer, the score is Σ_i ⟨d_i, x_i⟩ and a bias: the scale of a normalisation
    is a constant (`RelevanceRules`). Every block adds to x, so ⟨d_i, y⟩ is the direct effect of a summand y on the score
    (direct logit attribution). A decoder whose target is (position, token) has d = 0 at every other position. No block is
    differentiated. The cost is one forward and the head.

    Args:
        model: a module whose blocks are entries of an `nn.ModuleList` or `nn.Sequential`.
        inputs, kwargs: the arguments of the model.
        layers: names of layers of attention in the blocks, as a store has them.
        batch: the number of examples.
        target: the score of each example that is explained. See `capture_gradients`.
        reading: its arguments are passed to the model. See `Reading`.

    Raises:
        AttentionError: a source that is not a module; layers outside of blocks of one list; a score that is not computed from
            the last block's tokens, or not from them alone; a function of the head for which there is no rule; a target that
            cannot be selected, or `SeveralScores`; `torch.inference_mode`.

    Source: Elhage et al., *A Mathematical Framework for Transformer Circuits*, 2021 (direct effects on logits).
    """
    model = uncompiled(model)
    module = module_of(model)
    if module is None:
        raise AttentionError(
            f"the tokens of the last block are read off a module; got {type(model).__name__}.",
            "Pass the module itself, which an nnsight model holds as model._module.",
        )
    check_differentiable(module)
    if isinstance(target, SeveralScores):
        raise AttentionError("several scores have no direction in common.", "Pass one target for each example.")
    kwargs = separated(model, reading, kwargs)[1]

    def score() -> Tensor:
        return selected_score(model(*inputs, **kwargs), target, batch)

    with torch.no_grad(), plain_run(module), LayerOutputs(module, gradients=False) as outputs:
        expected = score()

    def by_rules() -> Tensor:
        with RelevanceRules():
            return score()

    return outputs.direction(layers, by_rules, expected)
