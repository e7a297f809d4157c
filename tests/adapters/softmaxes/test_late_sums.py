"""A softmax whose sum divides after the product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attnchain_adapters.softmaxes.late_sums import LateSums
from attnchain_adapters.softmaxes.map_product import Product

from .test_trail import Followed

B, H, N, D = 2, 3, 4, 5
LOGITS = torch.randn(B, H, N, N, generator=torch.Generator().manual_seed(0))
VALUES = torch.randn(B, H, N, D, generator=torch.Generator().manual_seed(1))


def sum_first(logits: Tensor, values: Tensor) -> Tensor:
    weights = logits.exp()
    total = weights.sum(-1, keepdim=True)
    return weights @ values / (total + 1e-9)


def sum_last(logits: Tensor, values: Tensor) -> Tensor:
    weights = logits.exp()
    mixed = torch.matmul(weights, values)
    mixed /= weights.sum(-1)[..., None]
    return mixed


def clamped(logits: Tensor, values: Tensor) -> Tensor:
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    return torch.div(weights @ values, weights.sum(dim=-1).unsqueeze(-1).clamp(min=1e-9))


@pytest.mark.parametrize("compute", [sum_first, sum_last, clamped])
def test_the_map_is_the_weights_over_their_sum(compute: Callable[[Tensor, Tensor], Tensor]) -> None:
    with Followed() as followed:
        result = compute(LOGITS, VALUES)
    (product,) = followed.products
    assert isinstance(product, Product)
    assert torch.allclose(product.maps, LOGITS.softmax(-1), atol=1e-6)
    assert torch.allclose(product.output(product.maps @ product.values), result, atol=1e-5)


def in_chunks(logits: Tensor, values: Tensor) -> Tensor:
    total, mixed = torch.zeros(B, H, N, 1), torch.zeros(B, H, N, D)
    greatest = torch.full((B, H, N, 1), -1e9)
    for part, own in zip(logits.split(2, -1), values.split(2, -2), strict=True):
        next_greatest = torch.maximum(greatest, part.amax(-1, keepdim=True))
        weights, before = (part - next_greatest).exp(), (greatest - next_greatest).exp()
        total = total * before + weights.sum(-1, keepdim=True)
        mixed, greatest = mixed * before + weights @ own, next_greatest
    return mixed / total


def column_of_ones(logits: Tensor, values: Tensor) -> Tensor:
    mixed = logits.exp() @ torch.cat([values, torch.ones(B, H, N, 1)], -1)
    return mixed[..., :-1] / mixed[..., -1:]


def reciprocal(logits: Tensor, values: Tensor) -> Tensor:
    weights = logits.exp()
    return (weights @ values) * (1 / weights.sum(-1, keepdim=True))


def einsums(logits: Tensor, values: Tensor) -> Tensor:
    weights = logits.exp()
    return torch.einsum("bhij,bhjd->bhid", weights, values) / torch.einsum("bhij->bhi", weights)[..., None]


def weights_gone(logits: Tensor, values: Tensor) -> Tensor:
    weights = logits.exp()
    mixed, total = weights @ values, weights.sum(-1, keepdim=True)
    del weights
    return mixed / total


def of_features(logits: Tensor, values: Tensor) -> Tensor:
    query, key = logits.exp(), logits.mT.exp()
    return query @ (key.mT @ values) / (query @ key.sum(-2)[..., None])


@pytest.mark.parametrize("compute", [in_chunks, column_of_ones, reciprocal, einsums, weights_gone, of_features])
def test_other_forms_are_seen_and_not_read(compute: Callable[[Tensor, Tensor], Tensor]) -> None:
    with Followed() as followed:
        compute(LOGITS, VALUES)
    assert set(followed.products) == {"it divides by the sum of its weights after the product with values"}


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, v: (a.exp() @ v) / v.sum(-1, keepdim=True),
        lambda a, v: (a @ v) / a.sum(-1, keepdim=True),
        lambda a, v: (lambda mixed: mixed / mixed.sum(-1, keepdim=True))(a.exp() @ v),
        lambda a, v: (a.exp() @ v) * v.sum(-1, keepdim=True),
    ],
)
def test_what_is_none(compute: Callable[[Tensor, Tensor], Any]) -> None:
    with Followed() as followed:
        compute(LOGITS, VALUES)
    assert not [found for found in followed.products if isinstance(found, str)]
    assert all(product.weighs for product in followed.products if isinstance(product, Product))


def test_nothing_is_remembered_of_what_is_gone() -> None:
    with Followed() as followed:
        sum_first(LOGITS, VALUES)
    late: LateSums = followed.trail._late
    assert not late
    assert len(late._products) == len(late._numbers) == 0
