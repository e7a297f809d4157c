"""Products of values with a map, whatever their axes of batch and heads."""

from __future__ import annotations

import pytest
import torch

from attnchain_adapters.softmaxes.map_product import Product


@pytest.mark.parametrize("groups", [(), (2,), (2, 3)])
def test_factors_get_two_axes_for_batch_and_heads_and_the_output_loses_them(groups: tuple[int, ...]) -> None:
    maps, values = torch.rand(*groups, 4, 5), torch.rand(*groups, 5, 6)
    product = Product.grouped(maps, values, lambda mixed: mixed, keys=5, last=True)
    assert isinstance(product, Product)
    assert (product.maps.shape, product.values.shape) == ((*(*groups, 1, 1)[:2], 4, 5), (*(*groups, 1, 1)[:2], 5, 6))
    assert torch.allclose(product.output(product.maps @ product.values), maps @ values)
    assert (product.folded, product.sink, product.pooled) == (len(groups) == 1, False, False)


def test_a_sink_and_a_pool() -> None:
    product = Product.grouped(torch.rand(1, 1, 5), torch.rand(1, 5, 6), lambda mixed: mixed, keys=6, last=False)
    assert isinstance(product, Product)
    assert (product.sink, product.pooled) == (True, True)


def test_more_axes_are_groups_of_tokens() -> None:
    found = Product.grouped(torch.rand(1, 2, 3, 4, 4), torch.rand(1, 2, 3, 4, 6), lambda mixed: mixed, 4, True)
    assert found == "it attends within groups of tokens: its map is (1, 2, 3, 4, 4)"
