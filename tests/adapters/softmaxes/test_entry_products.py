"""Products of a map and values entry by entry are known before their sum over keys is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnchain_adapters.softmaxes.entry_products import EntryProduct, entries, weights_of
from attnchain_adapters.softmaxes.map_product import Product

B, H, Q, K, D = 2, 3, 4, 5, 6
MAPS = torch.randn(B, H, Q, K, generator=torch.Generator().manual_seed(0)).softmax(-1)
VALUES = torch.randn(B, H, K, D, generator=torch.Generator().manual_seed(1))
OWN = VALUES[:, :, None].repeat(1, 1, Q, 1, 1)  # each query has values of its own


def of(weights: Tensor, values: Tensor) -> Any:
    return entries(weights, values, weights, K, True)


@pytest.mark.parametrize(
    ("weights", "values", "axis"),
    [
        (MAPS[..., None], VALUES[:, :, None], -2),
        (MAPS[..., None], VALUES[:, :, None].expand(-1, -1, Q, -1, -1), -2),
        (MAPS[:, :, :, None], VALUES.mT[:, :, None], -1),
    ],
)
@pytest.mark.parametrize("from_the_end", [True, False])
def test_a_sum_over_keys_finishes_the_product(weights: Tensor, values: Tensor, axis: int, from_the_end: bool) -> None:
    found, done = of(weights, values), weights * values
    assert found.axis == axis
    result = done.sum(axis)
    product = found.reduced(torch.sum, axis if from_the_end else done.ndim + axis, done.ndim, result, K, True)
    assert isinstance(product, Product)
    assert torch.equal(product.maps, MAPS)
    assert not product.weighs
    assert torch.allclose(product.output(product.maps @ product.values), result, atol=1e-6)
    assert found.reduced(torch.sum, 0, done.ndim, result, K, True) is None
    assert found.reduced(torch.amax, axis, done.ndim, result, K, True) is None
    assert "mean over keys" in str(found.reduced(torch.mean, axis, done.ndim, result, K, True))


def test_rows_with_values_of_their_own_weigh() -> None:
    weights, values = MAPS[:, 0, :, :, None], OWN[:, 0]
    found, done = of(weights, values), weights * values
    for reduce in (torch.sum, torch.mean):
        product = found.reduced(reduce, -2, done.ndim, reduce(done, -2), K, True)
        assert isinstance(product, Product)
        assert product.weighs
    square = OWN[..., :Q, :]
    own = entries(MAPS[..., :Q, None], square, MAPS[..., :Q, None], Q, True)
    assert isinstance(own, EntryProduct)
    assert "values of its own" in str(own.reduced(torch.sum, -2, 5, done, Q, True))


def test_one_key_at_a_time_is_named() -> None:
    assert "one key of its map at a time" in of(MAPS[..., :1], VALUES[:, :, :1])
    assert of(MAPS[..., :1], nn.Parameter(VALUES)[:, :, :1]) is None, "a vector that is learnt is of no token"
    assert of(MAPS[:, :, :3, :1], OWN[:, :, :3, 0]) is None, "an expert's output for each token"


@pytest.mark.parametrize("multiply", [torch.mul, Tensor.mul])
def test_the_factor_that_may_be_a_map(multiply: Callable[..., Tensor]) -> None:
    weights, values = MAPS[..., None], VALUES[:, :, None]
    assert weights_of(multiply, [weights, values]) is weights
    assert weights_of(multiply, [values, weights]) is weights
    assert weights_of(multiply, [MAPS, MAPS]) is None
    assert weights_of(torch.add, [weights, values]) is None


def test_a_product_of_two_distributions_is_one_of_pairs() -> None:
    """SigLIP 2 weighs the rows and the columns of its grid of positions so."""
    rows, columns = MAPS[:, 0], MAPS[:, 1]
    assert of(rows[..., None], columns[..., None, :]) is None
    assert "one key of its map at a time" in of(rows[..., :1], VALUES[:, 0, :1])
    assert "one key of its map at a time" in of(rows[..., None], 2 * columns[..., None, :])
