"""Metastable states beside closed forms."""

import pytest
import torch
from hypothesis import given
from torch import Tensor

import attnchain_interp as ac

from ..chains import blocks, lumped, ordered, random_logits


def test_blocks_in_closed_form() -> None:
    """Where only the block decides the next step, every slow eigenvector is constant on blocks, and the states are crisp."""
    P, one_hot = lumped(torch.tensor([[0.9, 0.06, 0.04], [0.05, 0.85, 0.1], [0.2, 0.02, 0.78]]), [4, 3, 2])
    chi = ac.metastable_states(P, 3)
    assert torch.allclose(chi, ordered(one_hot, ac.stationary(P)), atol=1e-9)
    assert torch.equal(ac.metastable_states(P), chi), "the gap is after the third eigenvalue"
    weight = ac.chain.coarse_grained_stationary(P, chi)
    assert torch.allclose(weight, (ac.stationary(P) @ one_hot).sort(descending=True).values)


def test_two_states_are_the_second_eigenvector_stretched_from_0_to_1() -> None:
    P = blocks(12, 2)
    values, vectors = torch.linalg.eig(P)
    x = vectors[:, values.real.argsort(descending=True)[1]].real
    first = (x - x.min()) / (x.max() - x.min())
    expected = ordered(torch.stack([first, 1 - first], 1), ac.stationary(P))
    assert torch.allclose(ac.metastable_states(P, 2), expected, atol=1e-9)


def test_a_token_between_closed_classes_belongs_to_each_as_often_as_it_ends_there() -> None:
    """Gambler's ruin: from i of n the walk ends at n with probability i / n."""
    n = 6
    P = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    P[0, 0] = P[n, n] = 1
    for i in range(1, n):
        P[i, i - 1] = P[i, i + 1] = 0.5
    chi = ac.metastable_states(P, 2)
    assert torch.allclose(chi.sort(-1).values[:, 1], (torch.arange(n + 1).double() / n - 0.5).abs() + 0.5)
    three = torch.tensor([[1, 0, 0], [0, 1, 0], [0.3, 0.5, 0.2]], dtype=torch.float64)
    assert torch.allclose(ac.metastable_states(three, 2)[2], torch.tensor([5 / 8, 3 / 8], dtype=torch.float64))


def test_cycles_are_no_metastable_states() -> None:
    """Eigenvalues 1, .92, −.98, −.9: the largest modulus would find the two sides between which the walk alternates."""
    swap = torch.tensor([[0.01, 0.99], [0.99, 0.01]])
    P = torch.kron(torch.tensor([[0.96, 0.04], [0.03, 0.97]]), swap)
    chi = ac.metastable_states(P, 2)
    assert chi.argmax(-1).tolist() == [1, 1, 0, 0]
    assert float(chi.max(-1).values.min()) > 0.999


def test_a_complex_pair_is_never_split() -> None:
    """Three blocks in a slow cycle: eigenvalues 1 and .85 ± .087i, then zeros."""
    P, one_hot = lumped(torch.tensor([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), [2, 3, 4])
    with pytest.raises(ac.AttentionError, match=r"k=2 would split .* 0\.85 ± 0\.0866i\.\nUse k=1 or k=3"):
        ac.metastable_states(P, 2)
    assert ac.metastable_states(P).argmax(-1).unique().tolist() == [0, 1, 2]
    assert sorted(ac.metastable_states(P, 3).round(decimals=9).T.tolist()) == sorted(one_hot.T.tolist())
    small = torch.tensor([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]])
    assert ac.metastable_states(small).shape == (3, 3), "of three tokens, k=2 splits and only 3 is left"


@pytest.mark.parametrize("k", [2, 3, 4, 6])
def test_the_gap_finds_the_number_of_blocks(k: int) -> None:
    for seed in range(3):
        P = blocks(8 * k, k, seed=seed)
        chi = ac.metastable_states(P)
        assert chi.shape == (8 * k, k)
        assert torch.allclose(chi, ac.metastable_states(P, k))
        labels = chi.argmax(-1).reshape(k, 8)
        assert bool((labels == labels[:, :1]).all()), "each block is one state"
        assert labels[:, 0].unique().numel() == k
        weight = ac.chain.coarse_grained_stationary(P, chi)
        assert bool((weight.diff() <= 1e-12).all())
        assert float(weight.sum()) == pytest.approx(1)


@given(random_logits(least=1))
def test_memberships_are_shares_and_follow_relabelling(raw: Tensor) -> None:
    P = raw.softmax(-1)
    chi = ac.metastable_states(P)
    assert bool((chi >= 0).all())
    assert torch.allclose(chi.sum(-1), torch.ones(len(P), dtype=torch.float64))
    order = torch.randperm(len(P), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ac.metastable_states(P[order][:, order]), chi[order], atol=1e-6)


def test_as_many_states_as_tokens() -> None:
    for n in (1, 2, 3, 5):
        P = blocks(n, 1)
        chi = ac.metastable_states(P, n)
        assert torch.allclose(chi, ordered(torch.eye(n, dtype=torch.float64), ac.stationary(P)), atol=1e-9)
    assert ac.metastable_states(torch.ones(1, 1)).tolist() == [[1]]
    assert ac.metastable_states(torch.tensor([[0.5, 0.5], [0.25, 0.75]])).tolist() == [[0, 1], [1, 0]]
    assert ac.metastable_states(blocks(3, 1), 1).tolist() == [[1]] * 3


def test_each_example_of_a_batch_has_its_own_tokens_and_its_own_k() -> None:
    """Right- and left-padded rows of 2 and 3 blocks give what each gives alone; the columns that are too many are zero."""
    two, three = blocks(24, 2), blocks(24, 3)
    P = torch.stack([two, three])
    states = torch.ones(2, 24, dtype=torch.bool)
    states[0, 20:] = False
    states[1, :3] = False
    chain = ac.restrict(P, states)
    chi = ac.metastable_states(chain)
    assert chi.shape == (2, 24, 3)
    for row, k in ((0, 2), (1, 3)):
        keep = states[row]
        alone = P[row][keep][:, keep]
        alone = alone / alone.sum(-1, keepdim=True)
        assert torch.allclose(chi[row][keep][:, :k], ac.metastable_states(alone), atol=1e-9)
        assert not chi[row][~keep].any()
    assert not chi[0, :, 2].any()
    weight = ac.chain.coarse_grained_stationary(chain, chi)
    assert torch.allclose(weight.sum(-1), torch.ones(2, dtype=torch.float64))
    assert float(weight[0, 2]) == 0
    nested = ac.metastable_states(P[:, None].expand(2, 2, 24, 24))
    assert nested.shape == (2, 2, 24, 3)
    assert torch.equal(nested[1, 0], ac.metastable_states(three))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_types_are_computed_in_float64(dtype: torch.dtype) -> None:
    P = blocks(16, 2)
    chi = ac.metastable_states(P.to(dtype), 2)
    assert chi.dtype == torch.float32
    assert torch.allclose(chi.double(), ac.metastable_states(P, 2), atol=1e-5 if dtype == torch.float32 else 3e-2)
    assert ac.chain.coarse_grained_stationary(P.to(dtype), chi).dtype == torch.float32


def test_causal_maps_and_many_equal_eigenvalues() -> None:
    causal = torch.zeros(10, 10).masked_fill(torch.ones(10, 10).triu(1).bool(), -torch.inf).softmax(-1)
    uniform, still = torch.full((4, 4), 0.25), torch.eye(4)
    for P, k in ((causal, 3), (uniform, 2), (still, 3)):
        chi = ac.metastable_states(P, k)
        assert torch.allclose(chi.sum(-1), torch.ones(len(P)))
    assert torch.equal(ac.metastable_states(still, 4).sum(0), torch.ones(4))


def test_damping_changes_nothing_but_the_weights() -> None:
    P = blocks(12, 2)
    eta = ac.stationary(P)
    chi = [ordered(ac.metastable_states(P, 2, damping=damping), eta) for damping in (1, 0.99, 0.5)]
    assert torch.allclose(chi[0], chi[1], atol=1e-9)
    assert torch.allclose(chi[0], chi[2], atol=1e-9)


@pytest.mark.parametrize(("k", "most"), [(None, 1), (2, 2)])
def test_no_chains_have_no_states(k: int | None, most: int) -> None:
    assert ac.metastable_states(torch.zeros(0, 3, 3), k).shape == (0, 3, most)


def test_bad_calls() -> None:
    P = blocks(6, 2)
    for k in (0, -1, True, 2.0):
        with pytest.raises(ac.AttentionError, match=f"k is {k}; it is the number of metastable states"):
            ac.metastable_states(P, k)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="k is 7, and the chain has 6 states.\nUse k=6 or fewer"):
        ac.metastable_states(P, 7)
    with pytest.raises(ac.AttentionError, match="k is 2, and the chain has 1 state.\nUse k=1 or fewer"):
        ac.metastable_states(torch.ones(1, 1), 2)
    some = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    with pytest.raises(ac.AttentionError, match=r"chain \[1\]: k is 3, and the chain has 2 states"):
        ac.metastable_states(ac.restrict(P.expand(2, 6, 6), some), 3)
    with pytest.raises(ac.AttentionError, match="damping is 2"):
        ac.metastable_states(P, 2, damping=2)
    with pytest.raises(ac.AttentionError, match=r"(?s)reducible.*Pass damping=0\.99"):
        ac.metastable_states(torch.eye(3), 2, damping=1)
    n = 30
    drift = torch.diag(torch.full((n - 1,), 0.9), 1) + torch.diag(torch.full((n - 1,), 0.01), -1)
    drift = drift.double() + torch.diag(1 - drift.double().sum(-1))
    with pytest.raises(ac.AttentionError, match=r"too little to weigh it by\.\nLower the damping"):
        ac.metastable_states(drift, 2, damping=1)


def test_memberships_must_be_shares_of_this_chain() -> None:
    P = blocks(6, 2)
    with pytest.raises(ac.AttentionError, match=r"memberships has shape \(5, 5\); with this chain it must be \(6, 'k'\)"):
        ac.chain.coarse_grained_stationary(P, torch.eye(5))
    for wrong in (torch.ones(6, 2), torch.full((6, 2), torch.nan), torch.tensor([[2.0, -1.0]] * 6)):
        with pytest.raises(ac.AttentionError, match="memberships are not shares"):
            ac.chain.coarse_grained_stationary(P, wrong)


def test_leading_eigenvalues_beside_the_whole_spectrum() -> None:
    for n in (20, 400):
        P = blocks(n, 3)
        every = torch.linalg.eigvals(P)
        expected = every[every.real.argsort(descending=True)][:3]
        assert torch.allclose(ac.chain.leading_eigenvalues(P, 3).real, expected.real, atol=1e-8)
    batch = ac.chain.leading_eigenvalues(torch.stack([torch.eye(2), torch.full((2, 2), 0.5)]), 3)
    assert torch.allclose(batch.real, torch.tensor([[1.0, 1, 0], [1, 0, 0]]), atol=1e-6)
    with pytest.raises(ac.AttentionError, match="count is 0; it is the number of eigenvalues"):
        ac.chain.leading_eigenvalues(torch.eye(2), 0)
