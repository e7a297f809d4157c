"""The contract that methods of perturbation share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution import TokenAblation, TokenPerturbation

from .. import small_models as small


class Left(TokenPerturbation):
    """The score with all tokens, at each token."""

    def __init__(self, forward_func: Any, score: Any = "log-probability") -> None:
        super().__init__(forward_func, None, score, 1)

    def of_one(self, ablation: TokenAblation, tokens: Tensor) -> Tensor:
        return ablation(tokens)[:, None] * tokens.double()


def test_each_example_is_scored_by_itself() -> None:
    model, mask = small.bert(), torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    method = Left(model)
    assert isinstance(method, PerturbationAttribution)
    found = method.attribute(small.ids(), [1, 2], mask, output="tokens")
    whole = model(small.ids(), attention_mask=mask).logits.log_softmax(-1)
    assert torch.allclose(found[0], whole[0, 1].expand(7))
    assert torch.allclose(found[1], whole[1, 2] * mask[1])
    assert torch.equal(method.attribute(small.ids(), [1, 2], mask, output="tokens", internal_batch_size=1), found)


def test_patches_alone_have_scores() -> None:
    model, images = small.vit(), small.images()
    found = Left(model, "logit").attribute(images, 1, output="tokens")
    assert torch.allclose(found[:, 1:], model(images)[:, 1:2].expand(2, 6))
    assert not found[:, 0].any()
    with pytest.raises(ac.AttentionError, match="score='p'"):
        Left(model, "p")
