"""A softmax is known in torch's functions, and where a model writes it by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_adapters.softmaxes.origins import STARTS, SoftmaxOrigins


class Watched(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.origins, self.axes, self.started = SoftmaxOrigins(), list[int](), False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.started |= func in STARTS
        if (axis := self.origins.axis(func, args, kwargs or {}, result)) is not None:
            self.axes.append(axis % result.ndim - result.ndim)
        return result


X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.softmax(-1),
        lambda x: torch.log_softmax(x, dim=-1),
        lambda x: F.softmin(x, -1),
        lambda x: F.normalize(x.exp(), p=1, dim=-1),
        lambda x: F.normalize(x.exp(), 1.0, -1),
        lambda x: x - x.logsumexp(-1, keepdim=True),
        lambda x: x.sub(torch.logsumexp(x, dim=-1, keepdim=True)),
        lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp()),
        lambda x: (lambda e: e / (e.sum((-1,), keepdim=True) + 1e-9))(x.exp()),
        lambda x: (lambda e: e / e.sum(-1).unsqueeze(-1))(x.exp()),
        lambda x: (lambda e: e / e.sum(-1)[..., None])(x.exp()),
        lambda x: (lambda e: e / e.sum(-1, keepdim=True).expand_as(e))(x.exp()),
        lambda x: (lambda e: e / torch.einsum("bij->bi", e)[..., None])(x.exp()),
        lambda x: (lambda e: e * (1 / e.sum(-1, keepdim=True)))(x.exp()),
        lambda x: (lambda e: e.sum(-1, keepdim=True).reciprocal() * e)(x.exp()),
        lambda x: (x - x.logsumexp(-1)[..., None]).exp(),
        lambda x: (lambda m, e: e / ((-m).exp() + e.sum(-1, keepdim=True)))(x.amax(-1, True), (x - x.amax(-1, True)).exp()),
        lambda x: (lambda e: torch.div(e, torch.sum(e, dim=-1, keepdim=True).clamp(min=1e-9)))(x.exp()),
    ],
)
def test_softmaxes(compute: Callable[[Tensor], Tensor]) -> None:
    with Watched() as watched:
        compute(X)
    assert (watched.axes, watched.started) == ([-1], True)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x / x.flip(0).sum(-1, keepdim=True),
        lambda x: x - x.sum(-1, keepdim=True),
        lambda x: x.sum(-1, keepdim=True) / x,
        lambda x: x * x.sum(-1, keepdim=True),
        lambda x: x / torch.einsum("bij,bij->bi", x, x)[..., None],
        lambda x: x / torch.einsum("bij->i", x)[..., None],
        lambda x: x / x.logsumexp(-1, keepdim=True),
        lambda x: F.normalize(x, dim=-1),
        lambda x: x.sum(-1) * x.amax(),
    ],
)
def test_what_is_none(compute: Callable[[Tensor], Tensor]) -> None:
    with Watched() as watched:
        compute(X)
    assert watched.axes == []
