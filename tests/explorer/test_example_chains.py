"""The chains of an example: its tokens, and the weights and vectors of its heads.

Metastable states in the page, or the reason why there are none.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer import example_chains
from attnchain_interp.explorer.encoding import dequantise
from attnchain_interp.explorer.example_chains import ExampleChains, weights

from ..published import PLAIN
from .stores import random_store


@pytest.mark.parametrize("heads", ["mean", "lambda2", "inverse-lambda2"])
def test_weights_are_those_of_head_weights(heads: str) -> None:
    store = random_store()
    chains = ExampleChains(store, 0, None)
    seconds = [chains.mixing(maps)[0] for maps, _ in chains.maps()]
    row = ("mean", "lambda2", "inverse-lambda2").index(heads)
    found = np.stack([weights(second)[row] for second in seconds])
    assert found == pytest.approx(ac.head_weights(store, heads)[0].numpy(), abs=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_vectors_are_token_rank_of_every_head(causal: bool) -> None:
    store = random_store(causal=causal)
    payload = ac.explore(store).payload
    vectors, states = dequantise(payload.array("vectors")), payload.header["states"]
    for layer in range(2):
        expected = ac.TokenRank(layers=layer, heads="each", balanced=False).score(store)[0][:, states]
        assert vectors[3 * layer : 3 * layer + 3] == pytest.approx(expected.numpy(), abs=5e-3)
        second = ac.second_eigenvalue(store.chain(layer, "each"))[0]
        assert payload.array("lambda2")[3 * layer : 3 * layer + 3] == pytest.approx(second.numpy(), abs=1e-4)


def test_padding_is_left_out_and_an_example_is_chosen() -> None:
    maps = torch.rand(2, 1, 4, 4)
    layout = ac.TokenLayout.text(torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]), [["a", "b", "c", "d"], ["", "x", "y", "z"]])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    payload = ac.explore(store, example=1, methods={"m": torch.arange(8.0).reshape(2, 4)}).payload
    assert payload.header["labels"] == ["x", "y", "z"]
    assert payload.array("methods").tolist() == [[5, 6, 7]]
    expected = store.chain().matrix[1, 1:, 1:]
    assert payload.maps()[0] == pytest.approx(expected.numpy(), abs=5e-3)


def test_regions_are_metastable_states() -> None:
    store = random_store(n=17)
    payload = ac.explore(store).payload
    method = ac.MetastableStates(**PLAIN)
    chi = method.memberships(store)[0][1:]
    weights = payload.header["regions"][0]["weights"]
    assert payload.array("regions")[:, : len(weights)] == pytest.approx(chi.numpy(), abs=1e-4)


def test_a_long_chain_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_chains, "MOST", 5)
    header = ac.explore(random_store()).payload.header
    assert header["regions"] == [
        {"heads": heads, "missing": "not computed for more than 5 tokens"} for heads in header["weightings"]
    ]


def test_jumps_lead_everywhere_where_the_last_token_is_no_state() -> None:
    store = random_store(causal=True)
    whole, part = ExampleChains(store, 0, "all"), ExampleChains(store, 0, [0, 1, 2])
    assert (whole.jump, whole.damping) == (len(store.tokens) - 1, 0.5)
    assert (part.jump, part.damping) == (None, 0.99)
