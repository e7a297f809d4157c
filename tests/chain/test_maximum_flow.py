"""Flows of graphs small enough to see their minimum cut."""

import torch

from attnchain_interp.chain.maximum_flow import SCALE, maximum_flow


def test_one_layer_is_a_row() -> None:
    P = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.125, 0.375, 0.5]])
    for token in range(3):
        start = torch.eye(3)[token]
        assert torch.equal(maximum_flow(P[None], start, torch.ones(3, dtype=torch.bool)), P[token])


def test_the_narrower_layer_decides_and_paths_add_up() -> None:
    """From token 0 two paths lead to token 1: 0.75 and then 0.5, 0.25 and then 1."""
    upper, lower = torch.tensor([[0.75, 0.25], [0.0, 1.0]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    flow = maximum_flow(torch.stack([upper, lower]), torch.tensor([1.0, 0.0]), torch.tensor([False, True]))
    assert flow.tolist() == [0, 0.75], "tokens that are no targets are given 0"


def test_capacities_are_rounded_to_the_scale() -> None:
    third = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    flow = maximum_flow(third[None], torch.eye(3)[0].double(), torch.ones(3, dtype=torch.bool))
    assert 0 < float((flow - 1 / 3).abs().max()) <= 0.5 / SCALE
