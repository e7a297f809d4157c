"""Leave one out: how much the score of the target falls without each token."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from captum.attr import FeatureAblation, PerturbationAttribution
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_ablation import Removal, TargetScore, TokenAblation, check_removal
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution, parts_of
from attnchain_interp.checks import check_whole_number
from attnchain_interp.store import TokenLayout


@final
class LeaveOneOut(TokenAttribution, PerturbationAttribution):
    """The score of the target with all tokens, less its score without the token. Captum's `FeatureAblation` computes it.

    Scores have a sign. The tokens are the patches of an image, or all tokens of a text; padding, class tokens and registers
    score 0. One forward a token, and two more. `attribute_text` explains each output token over its own context.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was.
        removal, score: see `TokenAblation`.
        perturbations_per_eval: how many tokens are left out in one forward, each in a row of the batch.

    Raises:
        AttentionError: at once, for another name or number; on attribution, the errors of `TokenAblation`.

    Source: Li, Monroe & Jurafsky, *Understanding Neural Networks through Representation Erasure*, 2016.
    """

    reads_gradients: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any,
        removal: Removal | None = None,
        score: TargetScore = "log-probability",
        perturbations_per_eval: int = 8,
    ) -> None:
        check_removal(removal, score)
        check_whole_number("perturbations_per_eval", perturbations_per_eval, "how many tokens are left out at a time")
        super().__init__(forward_func)
        self.removal: Removal | None = removal
        self.score: TargetScore = score
        self.perturbations_per_eval = perturbations_per_eval

    def read(self, call: Call) -> Scored:
        """Returns the scores of some examples, one after another."""
        found = [self._of_one(part) for part in parts_of(call, 1)]
        roles = torch.cat([ablation.tokens.roles for ablation, _ in found])
        return Scored(torch.cat([scores for _, scores in found]), TokenLayout(roles, found[0][0].tokens.grid))

    def scores(self, source: Scored, first: int = 0) -> Tensor:
        return source.scores

    def _of_one(self, call: Call) -> tuple[TokenAblation, Tensor]:
        ablation = TokenAblation(self.forward_func, call, self.removal, self.score)
        tokens = torch.ones(1, len(ablation), dtype=torch.float32, device=call.inputs.device)
        drops = FeatureAblation(ablation).attribute(tokens, 0, perturbations_per_eval=self.perturbations_per_eval)
        return ablation, ablation.on_tokens(drops)
