"""The damping that TokenRank takes where none is given."""

from __future__ import annotations

import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import functionals
from attnchain_interp.store.decoder_defaults import DAMPING, DECODER_DAMPING, default_damping


def test_jumps_to_the_last_state_are_damped_more() -> None:
    assert (default_damping(True), default_damping(False)) == (DECODER_DAMPING, DAMPING) == (0.5, 0.99)


def test_every_ranking_of_the_core_reads_the_default(store: ac.AttentionStore) -> None:
    causal = ac.AttentionStore.from_maps([torch.ones(1, 1, 4, 4).tril() / torch.arange(1.0, 5)[:, None]])
    for found, damping in ((causal, DECODER_DAMPING), (store, DAMPING)):
        assert torch.equal(ac.TokenRank().score(found), ac.TokenRank(damping=damping).score(found))


def test_traces_have_the_same_defaults(store: ac.AttentionStore) -> None:
    causal = torch.ones(1, 1, 4, 4).tril() / torch.arange(1.0, 5)[:, None]
    states = torch.ones(1, 1, 4, dtype=torch.bool)
    given = functionals.token_rank(causal, states, DECODER_DAMPING)
    assert torch.equal(functionals.token_rank(causal, states), given)
    assert torch.allclose(given[:, 0], ac.TokenRank().score(ac.AttentionStore.from_maps([causal])), atol=1e-6)
    maps = store[0].maps
    every = torch.ones(maps.shape[:-1], dtype=torch.bool)
    assert torch.equal(functionals.token_rank(maps, every), functionals.token_rank(maps, every, DAMPING))
