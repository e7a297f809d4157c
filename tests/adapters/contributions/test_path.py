"""Paths from the heads to the addition, with gates and norms. Families stand in `test_trace.py`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.contributions.path import ContributionPath
from attnchain_adapters.contributions.steps import Gate, Step, Steps, steps_of
from attnchain_interp import AttentionError

B, H, N, D, W = 2, 3, 4, 5, 7
RANDOM = torch.Generator().manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


VALUES, WEIGHT = random(B, H, N, D), random(W, H * D)


def refused(reason: str) -> AttentionError:
    return AttentionError(reason)


def joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


JOINED = Step(Tensor.view, joined)


def projected(bias: Tensor | None = None) -> Step:
    return Step(F.linear, lambda heads: F.linear(heads, WEIGHT, bias))


def check(steps: Steps) -> None:
    """The parts give what the steps give."""
    output = VALUES
    for step in steps:
        output = step.call(output) if isinstance(step, Step) else output * step.factor
    parts = ContributionPath(steps, refused).parts(VALUES, output)
    mixed = parts.values if parts.gate is None else parts.values * parts.gate
    mixed = mixed.sum(1) if parts.projection is None else torch.einsum("bhnd,hdw->bnw", mixed, parts.projection)
    mixed = mixed if parts.scale is None else mixed * parts.scale
    assert torch.allclose(mixed + parts.bias, parts.laid(output))


def test_a_gate_before_the_projection_in_the_layout_of_the_model() -> None:
    check((JOINED, Gate(random(B, N, H * D), torch.Size((B, N, H * D))), projected(random(W))))
    check((Gate(random(B, H, N, 1), VALUES.shape), JOINED, projected()))
    check((JOINED, Gate(random(B, N, 1), torch.Size((B, N, H * D))), projected()))


def test_a_gate_after_the_projection() -> None:
    for factor in (random(B, N, W), random(B, N, 1)):
        check((JOINED, projected(random(W)), Gate(factor, torch.Size((B, N, W)))))


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
def test_norms_before_and_after_the_projection(norm: object) -> None:
    for width, after in ((W, True), (H * D, False)):
        tensor = F.linear(joined(VALUES), WEIGHT) if after else joined(VALUES)
        weight = random(width)
        steps = steps_of(norm, (tensor, (width,), weight), {"eps": 1e-3}, 0, None)
        expected = norm(tensor, (width,), weight, eps=1e-3)  # type: ignore[operator]
        found = tensor
        for step in steps:
            found = step.call(found) if isinstance(step, Step) else found * step.factor
        assert torch.allclose(found, expected)
        check((JOINED, projected(), *steps) if after else (JOINED, *steps, projected()))


def test_few_tokens_are_sent_by_their_heads() -> None:
    """Three heads take fewer sendings than 15 unit vectors for one token."""
    path, values = ContributionPath((JOINED, projected()), refused), VALUES[:1, :, :1]
    parts = path.parts(values, F.linear(joined(values), WEIGHT))
    assert parts.projection is None
    assert torch.allclose(parts.values.sum(1), F.linear(joined(values), WEIGHT))


@pytest.mark.parametrize("order", ["heads first", "channels first"])
@pytest.mark.parametrize("bias", [random(W), None])
def test_a_plain_projection_is_its_own_weight(order: str, bias: Tensor | None) -> None:
    """No vector is sent through it, and the channels come in the order of the model."""

    def laid(heads: Tensor) -> Tensor:
        return joined(heads) if order == "heads first" else heads.permute(0, 2, 3, 1).flatten(2)

    def called(heads: Tensor) -> Tensor:
        sent.append(heads)
        return F.linear(heads, WEIGHT, bias)

    sent: list[Tensor] = []
    check((Step(Tensor.view, laid), Step(F.linear, called, WEIGHT, bias)))
    assert len(sent) == 1, "the check itself"


def test_what_is_no_sum() -> None:
    between = Gate(random(B, N, W), torch.Size((B, N, W)))
    again = Step(F.linear, lambda tensor: F.linear(tensor, random(W + 1, W)))
    with pytest.raises(AttentionError, match="a gate stands between its projections"):
        check((JOINED, projected(), between, again))
    places = Step(torch.add, lambda tensor: tensor + torch.arange(N)[:, None])
    with pytest.raises(AttentionError, match="differs from token to token"):
        check((JOINED, projected(), places))
    with pytest.raises(AttentionError, match="its output is"):
        check((Step(Tensor.view, lambda tensor: joined(tensor).flatten(0, 1)),))
