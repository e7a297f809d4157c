"""What a page shows first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.first_view import first_values

from .stores import random_store


def image_store() -> ac.AttentionStore:
    """Four layers over 3 × 3 patches without a class token, of which patch 0 takes much attention and gives nothing."""
    logits = torch.randn(4, 1, 2, 9, 9, generator=torch.Generator().manual_seed(3))
    logits[..., 0] += 5 * torch.rand(9, generator=torch.Generator().manual_seed(4))
    norms = torch.ones(1, 2, 9)
    norms[..., 0] = 0.01
    layers = [ac.LayerAttention(f"{k}", one.softmax(-1), value_norms=norms) for k, one in enumerate(logits)]
    return ac.AttentionStore(layers, ac.TokenLayout.image(1, (3, 3)))


def test_a_page_opens_with_the_chain_that_multi_bounce_walks() -> None:
    found = ac.explore(random_store(layers=4)).payload.header["first"]
    assert found == {"maps": "balanced", "layers": [2, 3], "depth": "even", "output": None, "from": 0}
    decoder = ac.explore(random_store(layers=4, causal=True)).payload.header["first"]
    assert decoder == {"maps": "attention", "layers": None, "depth": "late", "output": None, "from": 9}


def test_a_page_with_outputs_explains_the_first_from_the_token_before_it() -> None:
    store = random_store(causal=True)
    contributions = ac.AttentionStore.from_maps([layer.maps.mean(1, keepdim=True) for layer in store])
    header = ac.explore(store, contributions=contributions, outputs=3).payload.header
    assert header["outputs"] == [7, 8, 9]
    assert header["first"] | {"depth": ""} == {"maps": "contributions", "layers": None, "depth": "", "output": 7, "from": 6}


def test_without_a_class_token_a_walk_starts_at_the_subject_and_at_no_sink() -> None:
    store = image_store()
    rank = ac.TokenRank().score(store)[0]
    assert int(rank.argmax()) == 0
    assert ac.explore(store).payload.header["first"]["from"] == int(rank[1:].argmax()) + 1


@pytest.mark.parametrize("causal", [False, True])
def test_the_values_shown_first_are_those_of_multi_bounce(causal: bool) -> None:
    store = random_store(layers=4, causal=causal)
    header = ac.explore(store).payload.header
    chains = ExampleChains(store, 0, None)
    mean = torch.stack([store.chain(layer).matrix[0] for layer in range(4)])[:, :, chains.states]
    start = header["first"]["from"]
    settings: dict[str, Any] = {"layer_weights": "late"} if causal else {"layers": slice(-2, None), "balanced": True}
    expected = ac.bounce(store.chain(**settings), start, 2)[0]
    assert first_values(chains, mean.numpy(), header["first"]) == pytest.approx(expected.numpy(), abs=1e-5)
