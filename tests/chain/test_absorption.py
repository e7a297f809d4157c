"""Walks that end."""

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.chain import absorption
from attnchain_interp.operators.factors import Factors


def test_gamblers_ruin_in_closed_form() -> None:
    """A fair walk on 0 … n that ends at both sides visits j from i 2·min(i, j)·(n − max(i, j))/n times."""
    n = 6
    P = torch.eye(n + 1, dtype=torch.float64)
    for i in range(1, n):
        P[i, i], P[i, i - 1], P[i, i + 1] = 0, 0.5, 0.5
    chain = ac.absorb(P, (torch.arange(n + 1) == 0) | (torch.arange(n + 1) == n))
    start = torch.zeros(n + 1, dtype=torch.float64)
    start[2] = 1
    expected = [0.0] + [2 * min(2, j) * (n - max(2, j)) / n for j in range(1, n)] + [0.0]
    assert ac.expected_visits(chain, start).tolist() == pytest.approx(expected)
    everywhere = ac.expected_visits(chain)
    assert float(everywhere.sum()) == pytest.approx(sum(i * (n - i) for i in range(1, n)) / (n - 1)), "the mean duration"


def test_geometric_stay() -> None:
    P = torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    assert ac.expected_visits(ac.absorb(P, torch.tensor([True, False]))).tolist() == pytest.approx([0, 5])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0])])
def test_factored_chains(monkeypatch: pytest.MonkeyPatch, causal: bool, sinks: Tensor | None) -> None:
    query, key = torch.randn(2, 1, 2, 300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors = Factors(query, key, causal=causal, sinks=sinks)
    tokens = ac.TokenLayout.text(torch.ones(1, 300))
    first = torch.arange(300) == 0
    lazy = ac.AttentionStore([ac.LayerAttention("a", factors)], tokens).chain(heads="each", tokens=~first[None], sink="absorb")
    Q = factors.maps()[..., 1:, 1:]
    expected = torch.linalg.solve(torch.eye(299).double() - Q.mT, torch.full((299,), 1 / 299).double())
    for direct in (2048, 0):
        monkeypatch.setattr(absorption, "_DIRECT", direct)
        visits = ac.expected_visits(lazy)
        assert torch.allclose(visits[..., 1:], expected, rtol=1e-5)
        assert not visits[..., 0].any()


@pytest.mark.parametrize("causal", [False, True])
def test_the_gradient_of_visits(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = torch.arange(5) == 0

    def visits(logits: Tensor, start: Tensor) -> Tensor:
        P = logits.masked_fill(torch.ones(5, 5).triu(1).bool() & causal, -torch.inf).softmax(-1)
        return ac.expected_visits(ac.absorb(P, first), start.masked_fill(first, -torch.inf).softmax(-1))

    given = logits.requires_grad_(), logits[:, 0].detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(visits, given)
    monkeypatch.setattr(absorption, "_DIRECT", 0)
    if causal:
        assert visits(*given).requires_grad
        return
    with pytest.raises(ac.AttentionError, match="a chain of 5 tokens that is not causal have no gradient here"):
        visits(*given)
    with torch.no_grad():
        assert visits(*given).sum() > 0


def test_maps_below_one_are_said_to_be() -> None:
    maps = torch.tensor([[0.9, 0.0], [0.3, 0.5]])[None, None]
    tokens = ac.TokenLayout.text(torch.ones(1, 2))
    with pytest.raises(ac.AttentionError, match=r"(?s)row-stochastic.*sink=True"):
        ac.AttentionStore([ac.LayerAttention("a", maps)], tokens)
    store = ac.AttentionStore([ac.LayerAttention("a", maps, sink=True)], tokens)
    assert torch.allclose(store.chain().matrix.sum(-1), torch.ones(1, 2)), "dropped: renormalised"
    kept = store.chain(sink="absorb")
    assert torch.allclose(kept.matrix, maps[:, 0])
    assert ac.expected_visits(kept)[0].tolist() == pytest.approx([(0.5 + 0.5 * 0.3 / 0.5) / 0.1, 1.0])
    with pytest.raises(ac.AttentionError, match=r"sums to 1 \+ 0\.5"):
        ac.AttentionStore([ac.LayerAttention("a", maps + 0.3, sink=True)], tokens)


def test_bad_input(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)walks of this chain never end.*absorb\(P, tokens\)"):
        ac.expected_visits(ac.chain.as_chain(five))
    with pytest.raises(ac.AttentionError, match="every state absorbs"):
        ac.absorb(five, torch.ones(5, dtype=torch.bool))
    unreachable = torch.block_diag(torch.ones(1, 1), torch.full((2, 2), 0.5))
    with pytest.raises(ac.AttentionError, match="does not end from every state"):
        ac.expected_visits(ac.absorb(unreachable, torch.tensor([True, False, False])))
    chain = ac.absorb(five, torch.arange(5) == 0)
    with pytest.raises(ac.AttentionError, match="start is not a distribution"):
        ac.expected_visits(chain, torch.ones(5))
    with pytest.raises(ac.AttentionError, match="start has mass on tokens that are not states"):
        ac.expected_visits(chain, torch.eye(5)[0])
    store = ac.AttentionStore.from_maps([five.float()[None, None]])
    with pytest.raises(ac.AttentionError, match="sink='keep' is unknown"):
        store.chain(sink="keep")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match='it has no sink="absorb"'):
        store.chain(direction="outgoing", sink="absorb")


def rare(end: float, dtype: torch.dtype) -> ac.Chain:
    P = torch.tensor([[1, 0, 0], [end, 0.3, 0.7 - end], [0, 0.6, 0.4]], dtype=dtype)
    return ac.absorb(P, torch.tensor([True, False, False]))


def test_walks_that_never_end_are_refused_whatever_the_rounding() -> None:
    for seed in range(20):
        P = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)).softmax(-1)
        for chain in (P, P.double()):
            with pytest.raises(ac.AttentionError, match="does not end"):
                ac.expected_visits(ac.absorb(chain, torch.zeros(8, dtype=torch.bool)))


def test_walks_that_end_rarely_are_counted_in_float64() -> None:
    start = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    found = ac.expected_visits(rare(1e-6, torch.float64), start)
    assert found.tolist() == pytest.approx([0, 1e6, (0.7 - 1e-6) / 0.6 * 1e6])
    with pytest.raises(ac.AttentionError, match="float64"):
        ac.expected_visits(rare(1e-6, torch.float32), start.float())
    assert ac.expected_visits(rare(1e-3, torch.float32), start.float())[1].item() == pytest.approx(1e3, rel=1e-3)
