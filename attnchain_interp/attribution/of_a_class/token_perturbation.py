"""Methods that run the model without some of its tokens, and their base class. Captum's own methods compute the scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Final, Literal, final

import torch
from captum.attr import FeatureAblation, KernelShap, PerturbationAttribution, ShapleyValueSampling
from torch import Tensor
from torch.distributions import Categorical

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_ablation import Removal, TargetScore, TokenAblation, check_removal
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution
from attnchain_interp.attribution.token_inputs import examples_of
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.operators.shared_setting import SharedSetting
from attnchain_interp.store import TokenLayout

_FITS: Final = SharedSetting(partial(torch.random.fork_rng, devices=[]))


class TokenPerturbation(TokenAttribution, PerturbationAttribution, ABC):
    """A Captum perturbation method whose features are tokens: the patches of an image, or all tokens of a text.

    Scores have a sign. Padding, class tokens and registers score 0. `attribute_text` explains each output token over its own
    context. A subclass defines `of_one`.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was.
        removal, score: see `TokenAblation`.
        perturbations_per_eval: how many changed inputs are rows of one forward.

    Raises:
        AttentionError: at once, for another name or number; on attribution, the errors of `TokenAblation`, and a function as
            target whose score of an example depends on other examples of the batch.
    """

    explains_target: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any,
        *,
        removal: Removal | None = None,
        score: TargetScore = "log-probability",
        perturbations_per_eval: int = 8,
    ) -> None:
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
        scores, roles, grid, metadata = [], [], None, dict[str, str]()
        for part in examples_of(self.forward_func, call):
            ablation = TokenAblation(self.forward_func, part, self.removal, self.score)
            tokens = torch.ones(1, len(ablation), dtype=torch.float32, device=part.inputs.device)
            scores.append(ablation.on_tokens(self.of_one(ablation, tokens)))
            roles.append(ablation.tokens.roles)
            grid, metadata = ablation.tokens.grid, {**ablation.metadata}
        return Scored(torch.cat(scores), TokenLayout(torch.cat(roles), grid), metadata=metadata)


@final
class LeaveOneOut(TokenPerturbation):
    """The score of the target with all tokens, less its score without the token. Captum's `FeatureAblation` computes it.

    One forward a token, and at most ten more, of which eight check the model.

    Args:
        forward_func, removal, score, perturbations_per_eval: see `TokenPerturbation`.

    Source: Li, Monroe & Jurafsky, *Understanding Neural Networks through Representation Erasure*, 2016.
    """

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        return FeatureAblation(ablation).attribute(tokens, 0, perturbations_per_eval=self.perturbations_per_eval)


@final
class ShapleyValues(TokenPerturbation):
    """The gain of the target's score by a token, averaged over the sets of other tokens that are left beside it.

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
        *,
        method: Literal["sampling", "kernel"] = "sampling",
        n_samples: int = 25,
        seed: int = 0,
        removal: Removal | None = None,
        score: TargetScore = "log-probability",
        perturbations_per_eval: int = 8,
    ) -> None:
        check_one_of("method", method, ("sampling", "kernel"))
        check_whole_number("seed", seed, "the seed of the random sets", 0)
        check_whole_number("n_samples", n_samples, "the number of random orders or sets")
        super().__init__(forward_func, removal=removal, score=score, perturbations_per_eval=perturbations_per_eval)
        self.method, self.n_samples, self.seed = method, n_samples, seed

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        sampled = self.method == "sampling" or tokens.shape[1] == 1  # there is no kernel of one token
        captum: Any = (ShapleyValueSampling if sampled else KernelShap)(ablation)
        generator = torch.Generator("cpu").manual_seed(self.seed)
        if sampled:
            captum.permutation_generator = partial(_orders, generator)
        else:
            captum.perturb_func = partial(_sets, generator, tokens.device)
            captum.interpretable_model.fit = partial(_fitted, captum.interpretable_model.fit)
        options = {"n_samples": self.n_samples, "perturbations_per_eval": self.perturbations_per_eval}
        with torch.device("cpu"):
            return captum.attribute(tokens, 0, **options)


def _orders(generator: torch.Generator, tokens: int, count: int) -> Iterator[list[int]]:
    """Yields random orders of tokens: those of Captum's `ShapleyValueSampling`, by a generator of their own."""
    for _ in range(count):
        yield torch.randperm(tokens, generator=generator).tolist()


def _sets(
    generator: torch.Generator,
    device: torch.device,
    _: Any,
    *,
    num_interp_features: int,
    num_select_distribution: Categorical,
    **__: Any,
) -> Iterator[Tensor]:
    """Yields sets (1, token) of all tokens, of none, and random ones: those of `KernelShap`, by a generator of their own."""
    yield torch.ones(1, num_interp_features, dtype=torch.long, device=device)
    yield torch.zeros(1, num_interp_features, dtype=torch.long, device=device)
    while True:
        size = int(torch.multinomial(num_select_distribution.probs, 1, generator=generator))
        numbers = torch.randn(1, num_interp_features, generator=generator)
        yield (numbers > numbers.kthvalue(num_interp_features - size).values).long().to(device)


def _fitted(fit: Callable[[Any], Any], data: Any) -> Any:
    """Captum draws numbers of torch's generator to load the data, and for weights before they are fitted. It is put back."""
    with _FITS:
        return fit(data)
