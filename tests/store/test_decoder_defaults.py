"""The damping that TokenRank takes where none is given."""

from __future__ import annotations

import torch

import attnchain_interp as ac
from attnchain_interp.store.decoder_defaults import DAMPING, DECODER_DAMPING, default_damping


def test_jumps_to_the_last_state_are_damped_more() -> None:
    assert (default_damping(True), default_damping(False)) == (DECODER_DAMPING, DAMPING) == (0.5, 0.99)


def test_every_ranking_of_the_core_reads_the_default(store: ac.AttentionStore) -> None:
    causal = ac.AttentionStore.from_maps([torch.ones(1, 1, 4, 4).tril() / torch.arange(1.0, 5)[:, None]])
    for found, damping in ((causal, DECODER_DAMPING), (store, DAMPING)):
        assert torch.equal(ac.TokenRank().score(found), ac.TokenRank(damping=damping).score(found))
