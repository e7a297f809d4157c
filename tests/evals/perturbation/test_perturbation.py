"""Curves of one model and inputs, run once for all of them."""

import torch

from attnchain_evals import Perturbation

from ..summed_tokens import IDS, WORDS, Sum


def test_a_text_is_in_no_batch_of_its_own_making() -> None:
    experiments = [Perturbation(Sum().eval(), IDS, "pad-token", batch_size=size) for size in (1, 64)]
    curves = [each.curve(torch.rand(2, 5, generator=torch.Generator().manual_seed(0)), features=WORDS) for each in experiments]
    assert torch.equal(curves[0].scores, curves[1].scores)
