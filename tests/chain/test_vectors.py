"""Distributions and masks as users pass them."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.chain.vectors import distribution, one_hot, teleport, token_mask


@pytest.fixture
def chain() -> ac.Chain:
    return ac.restrict(torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1), torch.arange(4) > 0)


def test_a_distribution_is_broadcast_and_divided_by_its_sum(chain: ac.Chain) -> None:
    found = distribution(chain, torch.tensor([0, 0.5, 0.25, 0.2505], dtype=torch.float64), "start")
    assert found.shape == (2, 4)
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(-1), torch.ones(2))


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (torch.ones(3) / 3, "the chain has 4 tokens"),
        (torch.ones(3, 4) / 4, "must broadcast to"),
        (torch.ones(4), "sums to 4"),
        (torch.tensor([0, 2.0, -1, 0]), "least entry is -1"),
        (torch.full((4,), torch.nan), "sums to nan"),
        (torch.ones(4) / 4, "mass on tokens that are not states"),
    ],
)
def test_what_is_no_distribution_is_refused(chain: ac.Chain, vector: torch.Tensor, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        distribution(chain, vector, "start", states_only=True)


def test_jumps_land_on_states(chain: ac.Chain) -> None:
    assert torch.allclose(teleport(chain, None), torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]))
    assert teleport(chain, one_hot(chain, -1)).tolist() == [[0, 0, 0, 1]] * 2


def test_a_mask_is_broadcast(chain: ac.Chain) -> None:
    assert token_mask(chain, torch.tensor([[True], [False]]), "tokens").tolist() == [[True] * 4, [False] * 4]
    with pytest.raises(ac.AttentionError, match="tokens is torch.int64"):
        token_mask(chain, torch.tensor([1, 0, 0, 0]), "tokens")
