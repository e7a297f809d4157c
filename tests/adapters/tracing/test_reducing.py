"""The chain of a layer's maps: its states, padding, and rows that are refused. Walks over models: test_nnsight_models.py."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from attnchain_adapters.tracing.reducing import chain, reduce_layers, token_rank

MAPS = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_rows_sum_to_one_over_the_states() -> None:
    keys = torch.tensor([[True] * 4, [False, True, True, True]])
    P, states = chain(MAPS, keys, torch.tensor([True, True, True, False]), "layer")
    assert states[:, 0].tolist() == [[True, True, True, False], [False, True, True, False]]
    assert torch.allclose(P.sum(-1), torch.ones(2, 3, 4))
    assert not P.masked_select(~states[..., None, :]).any()
    assert torch.allclose(P[0, 0, 0], MAPS[0, 0, 0] * states[0, 0] / MAPS[0, 0, 0, :3].sum())


def test_what_is_not_a_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of layer sums to 1 ± 0.5"):
        chain(MAPS / 2, None, None, "layer")
    with pytest.raises(ValueError, match=r"set to zero. Set the output of a head to zero instead: o_proj"):
        chain(MAPS * torch.tensor([1, 0, 1])[:, None, None], None, None, "layer")
    with pytest.raises(ValueError, match=r"tokens is torch.int64 of shape \(4,\); the states are a bool tensor"):
        chain(MAPS, None, torch.arange(4), "layer")
    with pytest.raises(ValueError, match=r"tokens is \[0, 1\]; the states are a bool tensor, \(4,\) or \(2, 4\)"):
        chain(MAPS, None, [0, 1], "layer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="in layer an example has no state"):
        chain(MAPS, None, torch.zeros(4, dtype=torch.bool), "layer")


def test_shapes_without_values_are_refused() -> None:
    with FakeTensorMode() as mode, pytest.raises(ValueError, match=r"under scan layer has shapes alone.*model.trace"):
        chain(mode.from_tensor(MAPS), None, None, "layer")


def test_contributions_are_taken_outside_of_a_trace() -> None:
    for call in (token_rank, reduce_layers):
        with pytest.raises(ValueError, match=r"maps is 'alti'.*write capture\(model, prompt, maps='alti'\)"):
            call(None, maps="alti")
