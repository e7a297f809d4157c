"""Shapley values of tokens, by Captum."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from captum.attr import KernelShap, ShapleyValueSampling
from torch import Tensor

from attnchain_interp.attribution.of_a_class.token_perturbation import TokenPerturbation
from attnchain_interp.attribution.token_ablation import Removal, TargetScore, TokenAblation
from attnchain_interp.checks import check_one_of, check_whole_number


@final
class ShapleyValues(TokenPerturbation):
    """What a token adds to the score of the target, on average over the sets of other tokens that are left beside it.

    Captum estimates it from random sets, which are the same for each example with as many tokens.

    Args:
        forward_func, removal, score, perturbations_per_eval: see `TokenPerturbation`.
        method: "sampling" (`ShapleyValueSampling`: tokens are put in, one after another, in a random order) or "kernel"
            (`KernelShap`: a linear model of random sets; it needs scikit-learn).
        n_samples: the number of orders, each with a forward a token; or the number of sets, each with a forward.
        seed: of the random sets.

    Raises:
        AttentionError: at once, for another method or number.

    Source: Castro, Gómez & Tejada, *Polynomial calculation of the Shapley value based on sampling*, 2009; Lundberg & Lee, *A
    Unified Approach to Interpreting Model Predictions*, NeurIPS 2017.
    """

    def __init__(
        self,
        forward_func: Any,
        method: Literal["sampling", "kernel"] = "sampling",
        n_samples: int = 25,
        seed: int = 0,
        removal: Removal | None = None,
        score: TargetScore = "log-probability",
        perturbations_per_eval: int = 8,
    ) -> None:
        check_one_of("method", method, ("sampling", "kernel"))
        check_whole_number("n_samples", n_samples, "the number of random orders or sets")
        super().__init__(forward_func, removal, score, perturbations_per_eval)
        self.method, self.n_samples, self.seed = method, n_samples, seed

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        captum: Any = (ShapleyValueSampling if self.method == "sampling" else KernelShap)(ablation)
        options = {"n_samples": self.n_samples, "perturbations_per_eval": self.perturbations_per_eval}
        with torch.device("cpu"), torch.random.fork_rng(devices=[tokens.device] if tokens.is_cuda else []):
            torch.manual_seed(self.seed)
            return captum.attribute(tokens, 0, **options)
