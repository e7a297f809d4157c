"""Functions of chains in torch alone, beside those of the core."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import functionals

P = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)).mul(2).softmax(-1)
CAUSAL = torch.randn(2, 3, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
EVERY = torch.ones(2, 1, 5, dtype=torch.bool)


@pytest.mark.parametrize("maps", [P, CAUSAL], ids=["full", "causal"])
def test_they_give_what_the_core_gives(maps: torch.Tensor) -> None:
    chain = ac.restrict(maps, EVERY.expand(2, 3, 5))
    assert torch.allclose(functionals.stationary(maps, EVERY), ac.stationary(chain), atol=1e-5)
    assert torch.allclose(functionals.second_eigenvalue(maps, EVERY), ac.second_eigenvalue(chain), atol=1e-4)
    assert torch.allclose(functionals.bounce(maps, EVERY, -1, 3), ac.bounce(chain, 4, 3), atol=1e-6)
    assert torch.allclose(functionals.column_sum(maps, EVERY), maps.mean(-2), atol=1e-6)
    assert torch.allclose(functionals.entropy(maps, EVERY), torch.special.entr(maps).sum(-1).mean(-1), atol=1e-6)


@pytest.mark.parametrize("n", [1, 33, 130])
def test_elimination_beside_the_core(n: int) -> None:
    maps = torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(4).softmax(-1)
    states = torch.ones(2, 1, n, dtype=torch.bool)
    assert torch.allclose(functionals.stationary(maps, states), ac.stationary(maps))


@pytest.mark.parametrize("maps", [P, CAUSAL], ids=["full", "causal"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_balanced_chains(maps: torch.Tensor, strength: float) -> None:
    """One token is not a state: it keeps its row."""
    states = torch.tensor([False, True, True, True, True]).expand(2, 3, 5)
    chain = ac.balance(ac.restrict(maps, states), strength)
    found = functionals.balance(ac.restrict(maps, states).matrix, states[:, :1], strength)
    assert torch.allclose(found, chain.matrix, atol=1e-6)
    rank = functionals.token_rank(ac.restrict(maps, states).matrix, states[:, :1], 0.9, strength)
    jump = torch.eye(5)[-1] if maps is CAUSAL else None
    assert torch.allclose(rank, ac.stationary(chain, 0.9, jump), atol=1e-5)
    with pytest.raises(ValueError, match="strength is 2"):
        functionals.balance(maps, EVERY, 2)


@pytest.mark.parametrize("maps", [P, CAUSAL], ids=["full", "causal"])
def test_autocast_changes_no_number(maps: torch.Tensor) -> None:
    def numbers() -> list[torch.Tensor]:
        own = [functionals.bounce(maps, EVERY, -1, 3)]
        found = functionals.token_rank, functionals.second_eigenvalue, functionals.column_sum, functionals.entropy
        return own + [function(maps, EVERY) for function in found]

    expected = numbers()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, numbers(), expected))


def test_causal_maps_jump_to_the_last_token() -> None:
    assert functionals.triangular(CAUSAL)
    assert not functionals.triangular(P)
    expected = ac.stationary(CAUSAL, 0.5, torch.eye(5)[-1])
    assert torch.allclose(functionals.token_rank(CAUSAL, EVERY), expected, atol=1e-5)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(ValueError, match="damping is 1; in a trace"):
        functionals.stationary(P, EVERY, damping=1)
    with pytest.raises(ValueError, match="start is 5 and steps 2; there are 5 tokens"):
        functionals.bounce(P, EVERY, 5)
    with pytest.raises(ValueError, match="jumps is 'first'; it is 'uniform' or 'last'"):
        functionals.stationary(P, EVERY, jumps="first")  # type: ignore[arg-type]
