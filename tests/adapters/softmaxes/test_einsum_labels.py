"""Equations of an einsum, written in every way that torch takes."""

import pytest
import torch

from attnchain_adapters.softmaxes.einsum_labels import aligned, einsum_labels


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("bhij,bhjd->bhid", [(1, 1, 2, 3), (1, 1, 3, 4)], ["bhij", "bhjd", "bhid"]),
        (" b h i j , b j d -> b i h d ", [(1, 1, 2, 3), (1, 3, 4)], ["bhij", "bjd", "bihd"]),
        ("ij,jd", [(2, 3), (3, 4)], ["ij", "jd", "di"]),
        ("...ij,...jd->...id", [(5, 2, 3), (5, 3, 4)], ["aij", "ajd", "aid"]),
        ("...ij,jd->...id", [(6, 5, 2, 3), (3, 4)], ["abij", "jd", "abid"]),
    ],
)
def test_labels(equation: str, shapes: list[tuple[int, ...]], expected: list[str]) -> None:
    operands = [torch.zeros(shape) for shape in shapes]
    assert ["".join(labels) for labels in einsum_labels(equation, operands)] == expected
    if "->" in equation:
        assert torch.einsum(equation, *operands).ndim == len(expected[-1])


def test_factors_are_laid_out_as_the_result() -> None:
    first, second = torch.randn(2, 3), torch.randn(3, 4)
    result = torch.einsum("ij,jd->dij", first, second)
    assert torch.equal(aligned(first, ["i", "j"], ["d", "i", "j"]) * aligned(second, ["j", "d"], ["d", "i", "j"]), result)
