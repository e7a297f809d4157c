"""The sum of attention and the input of its block: which norm and output are the block's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.contributions.block_sum import BlockSum, is_sum

ATTENDED, X = torch.ones(1, 2, 3), torch.arange(6.0).view(1, 2, 3)


def made(alone: bool = True) -> tuple[BlockSum, Tensor]:
    total = ATTENDED + X
    return BlockSum(ATTENDED, (), X, total, alone), total


def test_a_sum_that_nothing_uses_is_the_output() -> None:
    found, total = made()
    norm, output = found.use or ("", None)
    assert norm is None
    assert output is not None
    assert torch.equal(output, total)
    total.mul_(2)
    assert torch.equal(output, ATTENDED + X), "the model may change its own"
    assert made(alone=False)[0].use == (None, None)


def test_one_norm_is_the_blocks() -> None:
    found, total = made()
    result = F.layer_norm(total, (3,), eps=1e-3)
    found.follow(F.layer_norm, (total, (3,)), {"eps": 1e-3}, result)
    assert found.use is not None
    norm, output = found.use
    assert norm is not None
    assert norm.eps == 1e-3
    assert output is not None
    assert torch.equal(output, result)
    found.follow(Tensor.add_, (total, X), {}, total.add_(X))
    assert found.use is not None
    assert found.use[0] is None, "the norm of another network, to whose output the sum is added"


def test_uses_that_are_not_known() -> None:
    found, total = made()
    found.follow(torch.tanh, (total,), {}, total.tanh())
    assert found.use is None
    outside, total = made()
    outside.follow(torch.tanh, (X,), {}, X.tanh())
    assert outside.use is not None, "a function of another tensor"
    beside, total = made(alone=False)
    beside.follow(F.layer_norm, (total, (3,)), {}, F.layer_norm(total, (3,)))
    assert beside.use is None, "the norm of a sum with something else"


def test_sums() -> None:
    assert is_sum(torch.add, {})
    assert not is_sum(torch.add, {"alpha": 0.5})
    assert not is_sum(torch.mul, {})
