"""The shifted inverse beside the eigenvalues of its maps."""

from __future__ import annotations

import torch

from attnchain_interp.numerics.shifted_inverse import APART, ahead, behind, shifted_inverse


def test_eigenvalues_of_the_inverse_stand_for_those_of_the_maps() -> None:
    maps = torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    own, inverted = (torch.linalg.eigvals(each) for each in (maps, shifted_inverse(maps)))
    assert torch.allclose(behind(ahead(own)), own)
    for values, others in zip(ahead(own), inverted, strict=True):
        assert (values[:, None] - others).abs().amin(1).max() < 1e-9
    assert torch.equal(inverted.abs().amax(-1) >= APART, torch.ones(3, dtype=torch.bool)), "the eigenvalue 1 stands apart"
