"""Shapley values of a few tokens beside all their sets."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import ShapleyValues, TokenAblation
from attnchain_interp.attribution.model_call import Call

from .. import small_models as small


def exact(ablation: TokenAblation) -> Tensor:
    """(token,): the mean over all orders of what each token adds."""
    n = len(ablation)
    total = torch.zeros(n).double()
    for order in permutations(range(n)):
        rows = torch.zeros(n + 1, n)
        for k, token in enumerate(order):
            rows[k + 1 :, token] = 1
        total[list(order)] += ablation(rows).diff()
    return total / len(list(permutations(range(n))))


def test_both_estimates_approach_the_values() -> None:
    model, ids = small.llama(layers=1), small.ids(1)[:, :4]
    expected = exact(TokenAblation(model, Call(ids, (3, 3)), "mean-embedding"))
    for method, samples in (("sampling", 60), ("kernel", 200)):
        estimate = ShapleyValues(model, method, samples, removal="mean-embedding", perturbations_per_eval=40)  # type: ignore[arg-type]
        found = estimate.attribute(ids, (3, 3), output="tokens")[0]
        assert torch.allclose(found.double(), expected, atol=0.15 * float(expected.abs().max()))
        assert torch.allclose(found.double().sum(), expected.sum(), atol=1e-4)


def test_the_seed_alone_decides_the_sets() -> None:
    model, images = small.vit(), small.images(1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (ShapleyValues(model, n_samples=2, seed=seed).attribute(images, 1, output="grid") for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "the generator of torch is left as it was"


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match="method='all'"):
        ShapleyValues(small.vit(), "all")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="n_samples"):
        ShapleyValues(small.vit(), n_samples=0)
