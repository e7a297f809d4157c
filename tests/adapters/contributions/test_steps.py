"""Steps of a path: which factor is a gate. Gates and norms in a path stand in `test_path.py`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.contributions.steps import Gate, Step, factor_of, is_by_token, steps_of

B, N, W = 2, 4, 7
RANDOM = torch.Generator().manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


def test_a_linear_step_knows_its_weight() -> None:
    tensor, weight, bias = random(B, N, W), random(3, W), random(3)
    for args, kwargs in (((tensor, weight, bias), {}), ((tensor, weight), {"bias": bias}), ((tensor,), {"weight": weight})):
        (step,) = steps_of(F.linear, args, kwargs, 0, None)
        assert isinstance(step, Step)
        assert step.weight is weight
        assert step.bias is (bias if len(args) + len(kwargs) == 3 else None)
        assert torch.equal(step.call(2 * tensor), F.linear(2 * tensor, weight, step.bias))


def test_a_divisor_of_each_token_is_a_gate() -> None:
    tensor, number = random(B, N, W), random(B, N, 1)
    (gate,) = steps_of(torch.div, (tensor, number), {}, 0, number)
    assert isinstance(gate, Gate)
    assert torch.equal(gate.factor, 1 / number)


def test_which_factor_is_a_gate() -> None:
    tensor, number, channel = random(B, N, W), random(B, N, 1), random(W)
    found = [is_by_token(each, tensor) for each in (number, channel, random(1, 1, W), 2)]
    assert found == [True, False, False, False]
    one = random(1, 1, W)
    assert [is_by_token(each, one) for each in (random(1, 1, 1), one, channel, random(1, W))] == [True, True, False, False]

    def nothing(_: object) -> bool:
        return False

    found = factor_of(torch.mul, [1], {0: number, 1: tensor}, nothing)
    assert found is not None
    assert (found[0], found[1] is number) == (1, True)
    assert factor_of(torch.mul, [0], {0: tensor, 1: channel}, nothing) is None
    assert factor_of(torch.add, [0], {0: tensor, 1: number}, nothing) is None
    assert factor_of(torch.div, [1], {0: number, 1: tensor}, nothing) is None, "a divisor is not linear"
    own = factor_of(torch.mul, [0, 1], {0: tensor, 1: number}, lambda _: True)
    assert own is not None
    assert own[1] is number, "the scale of a normalisation"
    assert factor_of(torch.mul, [0, 1], {0: tensor, 1: tensor + 1}, lambda _: True) is None, "a square"
