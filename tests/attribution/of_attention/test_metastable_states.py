"""MetastableStates on a chain of two groups."""

from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Role, TokenLayout


def test_metastable_states_are_numbered_from_the_one_that_attention_stays_in_most() -> None:
    """A class token and two groups of patches that attend to themselves; the second group is attended to more."""
    group = torch.tensor([0, 1, 0, 1, 1, 1])
    P = torch.where(group[:, None] == group, 0.95, 0.05 + 0.02 * group) * (1 + torch.arange(6) / 10)
    maps = torch.full((2, 2, 7, 7), 1 / 7)
    maps[..., 1:, 0], maps[..., 1:, 1:] = 0.1, 0.9 * P / P.sum(-1, keepdim=True)
    store = AttentionStore.from_maps([maps, maps], TokenLayout.image(2, (2, 3), prefix=[Role.CLASS]))
    method = ac.MetastableStates(k=2)
    assert method.score(store).tolist() == [[0, 2, 1, 2, 1, 1, 1]] * 2
    assert torch.equal(ac.MetastableStates(heads="each").score(store)[:, 1], method.score(store)), "the gap says 2"
    chi = method.memberships(store)
    assert chi.shape == (2, 7, 2)
    assert torch.allclose(chi, ac.metastable_states(store.chain(), 2))
    assert ac.MetastableStates(heads="each", layers=0).memberships(store).shape == (2, 2, 7, 2)
    with pytest.raises(ac.AttentionError, match=r"chain \[0\]: k is 7, and the chain has 6 states"):
        ac.MetastableStates(k=7).score(store)
