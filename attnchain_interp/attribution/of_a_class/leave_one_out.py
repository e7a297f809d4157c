"""Leave one out: how much the score of the target falls without each token."""

from __future__ import annotations

from typing import Any, final

from captum.attr import FeatureAblation
from torch import Tensor

from attnchain_interp.attribution.of_a_class.token_perturbation import TokenPerturbation
from attnchain_interp.attribution.token_ablation import Removal, TargetScore, TokenAblation


@final
class LeaveOneOut(TokenPerturbation):
    """The score of the target with all tokens, less its score without the token. Captum's `FeatureAblation` computes it.

    One forward a token, and two more.

    Args:
        forward_func, removal, score, perturbations_per_eval: see `TokenPerturbation`.

    Source: Li, Monroe & Jurafsky, *Understanding Neural Networks through Representation Erasure*, 2016.
    """

    def __init__(
        self,
        forward_func: Any,
        removal: Removal | None = None,
        score: TargetScore = "log-probability",
        perturbations_per_eval: int = 8,
    ) -> None:
        super().__init__(forward_func, removal, score, perturbations_per_eval)

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        return FeatureAblation(ablation).attribute(tokens, 0, perturbations_per_eval=self.perturbations_per_eval)
