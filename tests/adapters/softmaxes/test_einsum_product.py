"""The products of values with a map that einsums are."""

from __future__ import annotations

import pytest
import torch

from attnchain_adapters.softmaxes.einsum_labels import einsum_labels
from attnchain_adapters.softmaxes.einsum_product import einsum_product
from attnchain_adapters.softmaxes.map_product import Product

SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "d": 6, "e": 2}


@pytest.mark.parametrize(
    "equation", ["bhij,bhjd->bhid", "bhij,bjd->ibhd", "hbij,bhjd->bihd", "bij,bjde->bide", "bj,bjd->bd", "bij,bj->bi"]
)
def test_the_output_is_laid_out_as_the_einsum(equation: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    maps, values = (torch.rand([SIZES[each] for each in part], generator=drawn) for part in equation.split("->")[0].split(","))
    found = einsum_product((maps, values), einsum_labels(equation, [maps, values]), SIZES["j"], True)
    assert isinstance(found, Product)
    mixed = found.maps @ found.values
    assert torch.allclose(found.output(mixed), torch.einsum(equation, maps, values))


@pytest.mark.parametrize("equation", ["bhij,bhij->bh", "hibj,bjd->bd", "bij,bjd->bd"])
def test_others_are_none(equation: str) -> None:
    maps, values = (torch.zeros([SIZES[each] for each in part]) for part in equation.split("->")[0].split(","))
    assert einsum_product((maps, values), einsum_labels(equation, [maps, values]), SIZES["j"], True) is None
