"""The gradient of a map in factors, beside autograd."""

import torch

from attnchain_interp.gradients import FactoredGradient


def test_it_is_the_gradient_by_the_map() -> None:
    """Four heads of queries, two of keys, seven queries, five keys."""
    torch.manual_seed(0)
    maps = torch.rand(2, 4, 7, 5, dtype=torch.float64, requires_grad=True)
    values, weights = torch.randn(2, 2, 5, 3, dtype=torch.float64), torch.randn(2, 4, 7, 3, dtype=torch.float64)
    mixed = maps @ values.repeat_interleave(2, 1)
    by_maps, by_outputs = torch.autograd.grad((weights * mixed.tanh()).sum(), (maps, mixed))
    found = FactoredGradient(by_outputs, values)
    assert torch.allclose(found.maps(), by_maps, atol=1e-14)
    part = found.maps(slice(2, 4), slice(0, 3))
    assert torch.allclose(part, by_maps[:, :, 2:4, :3], atol=1e-14)


def test_it_is_cut_to_a_context_and_is_wide() -> None:
    outputs, values = torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3)
    found = FactoredGradient(outputs.half(), values.half())
    assert found.maps().dtype == torch.float32
    assert torch.equal(found.among(slice(0, 2)).maps(), found.maps()[:, :, :2, :2])
    assert "FactoredGradient(" in repr(found)
