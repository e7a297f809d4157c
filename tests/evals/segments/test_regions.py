"""How many regions, and which states are left out."""

import pytest
import torch

from attnchain_evals.segments.regions import SLOW, regions
from attnchain_interp import AttentionError
from attnchain_interp.chain import as_chain


def lumped(Q: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """A chain that moves among blocks by Q, and evenly within a block."""
    block = torch.arange(len(Q)).repeat_interleave(torch.tensor(sizes))
    return (Q.double()[block][:, block] / torch.tensor(sizes)[block])[None]


def test_slow_eigenvalues_are_counted() -> None:
    fast, slow = SLOW - 0.1, SLOW + 0.1
    for second, k in ((fast, 1), (slow, 2)):
        P = lumped(torch.tensor([[1 + second, 1 - second], [1 - second, 1 + second]]) / 2, [10, 10])
        found = regions(as_chain(P))
        assert found.memberships.shape == (20, k)
        assert found.eigenvalues.real[1] == pytest.approx(second)
        assert ("no parts" in found.rule) == (k == 1)


def test_the_second_of_a_slow_pair_counts_too() -> None:
    P = lumped(torch.tensor([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), [5, 5, 5])
    assert regions(as_chain(P)).memberships.shape == (15, 3)
    with pytest.raises(AttentionError, match="k=2 would split"):
        regions(as_chain(P), 2)


def test_a_patch_that_keeps_to_itself_is_left_out() -> None:
    Q = torch.tensor([[0.95, 0.04, 0.01], [0.04, 0.95, 0.01], [0.01, 0.01, 0.98]])
    found = regions(as_chain(lumped(Q, [400, 300, 1])), 3)
    assert found.left_out == 1
    assert found.memberships.shape == (701, 2)
    assert torch.allclose(found.memberships.sum(-1), torch.ones(701, dtype=torch.float64))
    assert regions(as_chain(lumped(Q, [40, 30, 7])), 3).left_out == 0
