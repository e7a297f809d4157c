"""The base class of the methods that run the model without some of its tokens. Captum's own methods compute the scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_ablation import Removal, TargetScore, TokenAblation, check_removal
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution, parts_of
from attnchain_interp.checks import check_whole_number
from attnchain_interp.store import TokenLayout


class TokenPerturbation(TokenAttribution, PerturbationAttribution, ABC):
    """A Captum perturbation method whose features are tokens: the patches of an image, or all tokens of a text.

    Scores have a sign. Padding, class tokens and registers score 0. `attribute_text` explains each output token over its own
    context. A subclass defines `of_one`.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was.
        removal, score: see `TokenAblation`.
        perturbations_per_eval: how many changed inputs are rows of one forward.

    Raises:
        AttentionError: at once, for another name or number; on attribution, the errors of `TokenAblation`.
    """

    reads_gradients: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True

    def __init__(self, forward_func: Any, removal: Removal | None, score: TargetScore, perturbations_per_eval: int) -> None:
        check_removal(removal, score)
        check_whole_number("perturbations_per_eval", perturbations_per_eval, "how many changed inputs are run at a time")
        super().__init__(forward_func)
        self.removal: Removal | None = removal
        self.score: TargetScore = score
        self.perturbations_per_eval = perturbations_per_eval

    @abstractmethod
    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        """Returns the scores (1, token) of the tokens of one example that can be removed.

        Args:
            ablation: the score as a function of the tokens that are left: Captum's `forward_func`.
            tokens: ones (1, token): Captum's `inputs`, whose baseline is 0.
        """

    def read(self, call: Call) -> Scored:
        """Returns the scores of some examples, one after another."""
        scores, roles, grid = [], [], None
        for part in parts_of(call, 1):
            ablation = TokenAblation(self.forward_func, part, self.removal, self.score)
            tokens = torch.ones(1, len(ablation), dtype=torch.float32, device=part.inputs.device)
            scores.append(ablation.on_tokens(self.of_one(ablation, tokens)))
            roles.append(ablation.tokens.roles)
            grid = ablation.tokens.grid
        return Scored(torch.cat(scores), TokenLayout(torch.cat(roles), grid))

    def scores(self, source: Scored, first: int = 0) -> Tensor:
        return source.scores
