"""Every chain finds the certificate that serves it, and no other is believed."""

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.chain.chain import as_chain
from attnchain_interp.numerics import certification
from attnchain_interp.numerics.certification import certify
from attnchain_interp.operators import Dense, Factors

from ..chains import attention, exact_second


def every(P: Tensor) -> Tensor:
    return torch.ones(P.shape[:-1], dtype=torch.bool)


def test_usual_heads_are_certified_by_krylov_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certification, "certified_spectrum", lambda maps, *_: pytest.fail(f"{len(maps)} heads were left"))
    P = attention(90, 4, 3.0)
    radius, known = certify(Dense(P), every(P), 1e-6)
    assert known.all()
    assert torch.allclose(radius, exact_second(P), atol=1e-6)


def test_slow_chains_are_certified_by_an_inverse_but_not_what_lies_across(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.95 near one beside −0.99: an inverse near one sees the first, and would take it for the largest."""
    n, calls = 100, []
    half = attention(50, 2, 5.0)[1].double()
    zero = torch.zeros_like(half)
    across = torch.cat([torch.cat([zero, half], 1), torch.cat([half, zero], 1)])
    P = torch.stack([0.995 * torch.block_diag(half, half) + 0.005 / n, 0.99 * across + 0.01 / n])
    inverse = certification._by_inverse
    monkeypatch.setattr(certification, "_by_inverse", lambda *given: calls.append(len(given[0])) or inverse(*given))
    radius, known = certify(Dense(P), every(P), 1e-6)
    assert calls
    assert known.all()
    assert radius.tolist() == pytest.approx([0.995, 0.99], abs=1e-6)


def test_states_and_batches_of_any_shape() -> None:
    P = attention(60, 4, 3.0).reshape(2, 2, 60, 60)
    states = torch.arange(60).expand(2, 2, -1) < torch.tensor([[60, 40], [30, 10]])[..., None]
    chain = ac.restrict(P, states)
    radius, known = certify(chain.transitions, chain.states, 1e-6)
    assert known.all()
    for index, size in (((0, 1), 40), ((1, 1), 10)):
        inside = P[index][:size, :size] / P[index][:size, :size].sum(-1, keepdim=True)
        assert float(radius[index]) == pytest.approx(float(exact_second(inside)), abs=1e-6)


def test_triangular_chains_are_exact_far_from_normal_as_they_are() -> None:
    P = attention(90, 3, 6.0, causal=True)
    radius, known = certify(Dense(P), every(P), 1e-12)
    assert known.all()
    assert torch.equal(radius.float(), P.diagonal(dim1=-2, dim2=-1).topk(2).values[:, 1])


def test_factored_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(2, 1, 2, 80, 8, generator=torch.Generator().manual_seed(0)).double()
    chain = ac.chain.as_chain(Factors(query, key))
    expected, known = certify(chain.transitions, chain.states, 1e-6)
    assert known.all()
    monkeypatch.setattr(certification, "_MULTIPLIED_OUT", 0)
    radius, known = certify(chain.transitions, chain.states, 1e-6)
    assert known.all()
    assert torch.allclose(radius, expected, atol=1e-6)
    monkeypatch.setattr(certification, "SIZES", (4,))
    radius, known = certify(chain.transitions, chain.states, 1e-6)
    assert not known.any()
    assert radius.tolist() == [[1, 1]]


def test_a_space_that_is_exhausted_at_once_certifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform maps: nothing is left after one product. The maps and the factors answer without a dense eigensolver."""
    monkeypatch.setattr(certification, "certified_spectrum", None)
    P = torch.full((2, 60, 60), 1 / 60).double()
    radius, known = certify(Dense(P), every(P), 1e-6)
    assert known.all()
    assert float(radius.max()) < 1e-6
    monkeypatch.setattr(certification, "_MULTIPLIED_OUT", 10)
    zero = torch.zeros(1, 1, 60, 4).double()
    chain = as_chain(Factors(zero, zero))
    radius, known = certify(chain.transitions, chain.states, 1e-6)
    assert known.all()
    assert float(radius.max()) < 1e-6
