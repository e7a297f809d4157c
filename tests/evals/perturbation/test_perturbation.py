"""Curves of one model and inputs, run once for all of them."""

import pytest
import torch

from attnchain_evals import KernelBlur, Perturbation, ReplaceToken, Superpixels
from attnchain_interp import AttentionError

from ..summed_tokens import IDS, WORDS, Sum


def test_what_is_no_model_and_no_number_is_refused() -> None:
    with pytest.raises(AttentionError, match="(?s)model is 'vit', which cannot be called.*Pass a module, or a function"):
        Perturbation("vit", IDS)  # type: ignore[arg-type]
    for kind, name in ((ReplaceToken, "token"), (Superpixels, "count"), (KernelBlur, "size")):
        for wrong in (None, -3, 0.5):
            with pytest.raises(AttentionError, match=f"{name} is {wrong}"):
                kind(wrong)  # type: ignore[arg-type]


def test_a_text_is_in_no_batch_of_its_own_making() -> None:
    experiments = [Perturbation(Sum().eval(), IDS, "pad-token", batch_size=size) for size in (1, 64)]
    curves = [each.curve(torch.rand(2, 5, generator=torch.Generator().manual_seed(0)), features=WORDS) for each in experiments]
    assert torch.equal(curves[0].scores, curves[1].scores)
