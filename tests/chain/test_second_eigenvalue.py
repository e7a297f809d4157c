import pytest
import torch
from deeptime.markov.tools.analysis import eigenvalues as deeptime_eigenvalues
from hypothesis import given
from torch import Tensor

import attnchain_interp as ac

from ..chains import random_logits, vit_like


def test_the_authors_complex_pair(five: Tensor) -> None:
    """Eigenvalues 1, −.2775 ± .5613i: only the modulus, .6261, says how slowly the chain mixes."""
    assert float(ac.second_eigenvalue(five)) == pytest.approx(0.6261, abs=1e-4)
    assert float(ac.second_eigenvalue(ac.damp(five, 0.99))) == pytest.approx(0.6198, abs=1e-4)


def test_closed_forms() -> None:
    two = torch.tensor([[0.8, 0.2], [0.05, 0.95]])
    assert float(ac.second_eigenvalue(two)) == pytest.approx(0.75, abs=1e-6)
    assert float(ac.second_eigenvalue(torch.eye(5).roll(1, 1))) == pytest.approx(1, abs=1e-6)
    assert float(ac.second_eigenvalue(torch.ones(1, 1))) == 0
    assert float(ac.second_eigenvalue(torch.full((4, 4), 0.25))) == pytest.approx(0, abs=1e-6)


def test_against_float64_eigenvalues_and_deeptime() -> None:
    P = vit_like()
    expected = torch.linalg.eigvals(P.double()).abs().topk(2).values[:, 1]
    assert torch.allclose(ac.second_eigenvalue(P).double(), expected, atol=1e-5)
    double = P[0].double() / P[0].double().sum(-1, keepdim=True)
    theirs = abs(deeptime_eigenvalues(double.numpy()))[1]
    assert float(ac.second_eigenvalue(double)) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_triangular_maps_are_read_off_the_diagonal(flip: bool) -> None:
    raw = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P = raw.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    P = P.flip(-1, -2) if flip else P
    expected = P.diagonal(dim1=-2, dim2=-1).sort(-1).values[:, -2]
    assert torch.equal(ac.second_eigenvalue(P), expected)


@given(random_logits(least=3))
def test_tokens_outside_the_chain_change_nothing(raw: Tensor) -> None:
    P = raw.softmax(-1)
    keep = torch.arange(len(P)) > 0
    inside = P[1:, 1:] / P[1:, 1:].sum(-1, keepdim=True)
    assert float(ac.second_eigenvalue(ac.restrict(P, keep))) == pytest.approx(float(ac.second_eigenvalue(inside)), abs=1e-6)
