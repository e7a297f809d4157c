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
    torch.manual_seed(0)
    for method, samples in (("sampling", 60), ("kernel", 200)):
        found = ShapleyValues(model, method, samples, "mean-embedding", perturbations_per_eval=40).attribute(  # type: ignore[arg-type]
            ids, (3, 3), output="tokens"
        )[0]
        assert torch.allclose(found.double(), expected, atol=0.15 * float(expected.abs().max()))
        assert torch.allclose(found.double().sum(), expected.sum(), atol=1e-4)


def test_a_seed_gives_the_same_values() -> None:
    model, images = small.vit(), small.images(1)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(ShapleyValues(model, n_samples=2).attribute(images, 1, output="grid"))
    assert torch.equal(*found)
    assert found[0].any()


def test_refusals() -> None:
    with pytest.raises(ac.AttentionError, match="method='all'"):
        ShapleyValues(small.vit(), "all")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="n_samples"):
        ShapleyValues(small.vit(), n_samples=0)
