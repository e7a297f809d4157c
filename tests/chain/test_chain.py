"""The checks that every map passes before it is called a chain. A chain keeps to its states, and keeps its answers."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionError
from attnchain_interp.chain.chain import check_rows, check_square

ROWS = torch.tensor([[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-6), (torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
def test_the_tolerance_is_that_of_the_type(dtype: torch.dtype, off: float) -> None:
    check_rows((ROWS * (1 + 0.4 * off)).to(dtype), "A")
    with pytest.raises(AttentionError, match="A is not row-stochastic"):
        check_rows((ROWS * (1 + 3 * off)).to(dtype), "A")


def test_rows_of_padding_are_not_looked_at() -> None:
    maps = torch.cat([ROWS, torch.full((1, 2), torch.nan)])
    check_rows(maps, "A", torch.tensor([True, True, False]))
    with pytest.raises(AttentionError, match="A holds 1 rows with NaN"):
        check_rows(maps, "A")


def test_a_sink_leaves_rows_below_one_but_never_above() -> None:
    check_rows(ROWS / 2, "A", below_one=True)
    with pytest.raises(AttentionError, match=r"sums to 1 \+ 0\.1"):
        check_rows(ROWS * 1.1, "A", below_one=True)


def test_a_float_of_one_byte_is_refused() -> None:
    with pytest.raises(AttentionError, match=r"A is torch.float8_e4m3fn\.\nPass .* 16 bits or more"):
        check_rows(ROWS.to(torch.float8_e4m3fn), "A")


def test_square() -> None:
    check_square(ROWS, "A")
    for maps in (ROWS[:1], ROWS[0], torch.zeros(0, 0)):
        with pytest.raises(AttentionError, match="a chain needs square maps"):
            check_square(maps, "A")


def test_a_chain_is_gone_with_its_mixing(five: Tensor) -> None:
    gc.disable()
    try:
        found = ac.mixing(five)
        chain = weakref.ref(found.chain)
        del found
        assert chain() is None
    finally:
        gc.enable()


def test_a_chain_keeps_its_answers(five: Tensor) -> None:
    chain = ac.chain.as_chain(five)
    first = ac.mixing(chain)
    assert torch.equal(first.stationary, chain.answers[0.99][0])
    chain.answers[0.99][0].add_(1)
    assert torch.equal(ac.mixing(chain).stationary, first.stationary + 1), "nothing is solved again"
    ac.mixing(chain, personalization=torch.eye(5).double()[0])
    ac.stationary(chain, 0.5)
    assert list(chain.answers) == [0.99], "for uniform jumps, and by `mixing` alone"


def test_steps_and_sizes(five: Tensor) -> None:
    chain = ac.Chain(five, torch.ones(5, dtype=torch.bool))
    assert torch.equal(chain.step(five[2]), five[2] @ five)
    assert len(chain) == 5
    assert repr(chain) == "Chain((5, 5), torch.float64, held as a matrix)"
    assert chain.uniform.tolist() == [0.2] * 5
    assert not chain.causal
    assert ac.chain.as_chain(five.tril() / five.tril().sum(-1, keepdim=True)).causal


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (torch.tensor([[0.5, 0.4], [0.5, 0.5]]), r"(?s)a row sums to 1 ± 0\.1.*\.eval\(\)"),
        (torch.tensor([[torch.nan, 0.5], [0.5, 0.5]]), "1 rows with NaN"),
        (torch.tensor([[1.5, -0.5], [0.5, 0.5]]), "negative entries .least -0.5"),
        (torch.full((2, 3), 1 / 3), r"shape \(2, 3\); a chain needs square maps"),
        (torch.eye(2, dtype=torch.long), "int64"),
    ],
)
def test_maps_that_are_no_chains_are_refused(P: Tensor, message: str) -> None:
    for function in (lambda: ac.bounce(P, 0), lambda: ac.stationary(P), lambda: ac.second_eigenvalue(P)):
        with pytest.raises(ac.AttentionError, match=message):
            function()


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 9.5e-4), (torch.float64, 9.5e-7), (torch.float32, 3e-6)])
def test_rows_off_within_the_tolerance_are_the_chain_of_their_proportions(dtype: torch.dtype, off: float) -> None:
    """Maps of 16-bit models, widened since: what a chain takes, every function of it answers, and all of the same chain."""
    generator = torch.Generator().manual_seed(0)
    for n in (2, 40, 60, 130):
        rows = torch.rand(3, n, n, generator=generator, dtype=torch.float64) ** 8 + 1e-12
        rows = rows / rows.sum(-1, keepdim=True)
        P = (rows * (1 + off * (2 * torch.rand(3, n, 1, generator=generator, dtype=torch.float64) - 1))).to(dtype)
        for given in (P, ac.Chain(P, torch.ones(3, n, dtype=torch.bool))):
            pi = ac.stationary(given).double()
            followed = 0.99 * (pi[:, None] @ rows)[:, 0] + 0.01 / n
            assert float((followed - pi).abs().sum(-1).max()) < 2e-6
            assert torch.allclose(ac.bounce(given, 0, steps=50).sum(-1), torch.ones(3, dtype=dtype), atol=1e-5)
        reducible = torch.block_diag(*P[:2])
        with pytest.raises(ac.AttentionError, match="reducible"):
            ac.stationary(reducible, damping=1)


def test_a_map_of_a_16_bit_model_that_is_too_far_off_is_told_how_to_be_renormalised(five: Tensor) -> None:
    widened = five.float() * 1.004
    with pytest.raises(ac.AttentionError, match=r"(?s)1 ± 0\.004.*renormalised by P / P.sum\(-1, keepdim=True\)"):
        ac.stationary(widened)
    assert torch.allclose(ac.stationary(widened / widened.sum(-1, keepdim=True)), ac.stationary(five).float(), atol=1e-6)


def test_a_chain_by_hand_must_keep_to_its_states(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="leads to a token that is not a state"):
        ac.Chain(five, torch.tensor([True, True, True, True, False]))
    with pytest.raises(ac.AttentionError, match=r"states is torch.float32 of shape \(5,\); it must be bool"):
        ac.Chain(five, torch.ones(5))


def test_maps_with_nan_are_named_and_the_others_have_answers() -> None:
    P = torch.full((2, 3, 4, 4), 0.25)
    P[1, 2, 0, 3], P[0, 1, 2] = torch.nan, torch.inf
    with pytest.raises(AttentionError, match=r"2 rows with NaN or infinity, in 2 of 6 maps: \(0, 1\), \(1, 2\)\.") as refused:
        ac.mixing(P)
    assert "P[P.isfinite().all(-1).all(-1)]" in str(refused.value)
    assert ac.mixing(P[P.isfinite().all(-1).all(-1)]).stationary.shape == (4, 4)


def test_a_matrix_of_another_type_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="float32 or float64"):
        ac.Chain(torch.eye(4).half(), torch.ones(4, dtype=torch.bool))


def test_a_store_is_no_map_but_has_a_chain() -> None:
    store = ac.AttentionStore.from_maps([ROWS[None, None]])
    with pytest.raises(AttentionError, match=r"(?s)P is of type AttentionStore.*Pass its chain: store.chain\(\)"):
        ac.stationary(store)  # type: ignore[arg-type]
