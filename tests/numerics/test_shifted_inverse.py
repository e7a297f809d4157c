"""The shifted inverse beside a dense one, and its eigenvalues beside those of its maps."""

from __future__ import annotations

import pytest
import torch

from attnchain_interp.numerics.shifted_inverse import APART, SHIFT, ShiftedInverse, ahead, behind


@pytest.mark.parametrize("n", [1, 2, 7, 8, 131])
def test_products_beside_the_dense_inverse(n: int) -> None:
    maps = torch.randn(3, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    v = torch.randn(3, 2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inverse, product = torch.linalg.inv(torch.eye(n, dtype=torch.float64) - SHIFT * maps), ShiftedInverse(maps)
    assert torch.allclose(product(v), v @ inverse)
    assert torch.allclose(product.of_columns(v), v @ inverse.mT)
    kept = torch.tensor([True, False, True])
    product.keep(kept)
    assert torch.allclose(product(v[kept]), (v @ inverse)[kept])


def test_eigenvalues_of_the_inverse_stand_for_those_of_the_maps() -> None:
    maps = torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    inverse = ShiftedInverse(maps)(torch.eye(8, dtype=torch.float64).expand(3, 8, 8))
    own, inverted = (torch.linalg.eigvals(each) for each in (maps, inverse))
    assert torch.allclose(behind(ahead(own)), own)
    for values, others in zip(ahead(own), inverted, strict=True):
        assert (values[:, None] - others).abs().amin(1).max() < 1e-9
    assert torch.equal(inverted.abs().amax(-1) >= APART, torch.ones(3, dtype=torch.bool)), "the eigenvalue 1 stands apart"
