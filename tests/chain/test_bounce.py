import pytest
import torch
from torch import Tensor

import attnchain_interp as ac


def test_the_authors_bounces(five: Tensor) -> None:
    last = torch.eye(5, dtype=torch.float64)[4]
    assert torch.allclose(ac.bounce(five, 4, steps=1), five[4])
    printed = torch.tensor([0.24, 0.04, 0.03, 0.48, 0.22], dtype=torch.float64)
    recomputed = torch.tensor([0.2430, 0.0386, 0.0259, 0.4757, 0.2168], dtype=torch.float64)
    assert torch.allclose(ac.bounce(five, last, steps=2), printed, atol=0.01)
    assert torch.allclose(ac.bounce(five, last, steps=2), recomputed, atol=1e-4)


def test_the_authors_column_sum(five: Tensor) -> None:
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    once = torch.tensor([0.4440, 0.0480, 0.0360, 0.2020, 0.2700], dtype=torch.float64)
    twice = torch.tensor([0.2278, 0.0424, 0.0275, 0.4040, 0.2983], dtype=torch.float64)
    assert torch.allclose(ac.bounce(five, uniform, steps=1), once, atol=1e-4)
    assert torch.allclose(ac.bounce(five, uniform, steps=1), five.sum(0) / 5)
    assert torch.allclose(ac.bounce(five, uniform, steps=2), twice, atol=1e-4)


def test_bounce_is_a_matrix_power(five: Tensor) -> None:
    path = ac.bounce(five, 2, steps=4, path=True)
    assert path.shape == (5, 5)
    for n in range(5):
        assert torch.allclose(path[n], torch.linalg.matrix_power(five, n)[2])


def test_bounce_broadcasts_over_batches(five: Tensor) -> None:
    P = torch.stack([five, five.flip(0)])
    assert torch.allclose(ac.bounce(P, 1, steps=3)[1], ac.bounce(P[1], 1, steps=3))


def test_half_precision_is_computed_in_float32() -> None:
    P = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1).to(torch.bfloat16)
    assert ac.bounce(P, 0).dtype == torch.float32
    assert float(ac.bounce(P, 0, steps=50).sum()) == pytest.approx(1, abs=1e-5)


def test_bad_starts_are_refused(five: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="start token 5 does not exist; the chain has 5 tokens"):
        ac.bounce(five, 5)
    with pytest.raises(ac.AttentionError, match="start is not a distribution: it sums to 5"):
        ac.bounce(five, torch.ones(5))
    with pytest.raises(ac.AttentionError, match="not a distribution"):
        ac.bounce(five, torch.tensor([1.5, -0.5, 0, 0, 0]))
    with pytest.raises(ac.AttentionError, match="not a distribution"):
        ac.bounce(five, torch.tensor([torch.nan, 1, 0, 0, 0]))
    with pytest.raises(ac.AttentionError, match=r"start has shape \(4,\)"):
        ac.bounce(five, torch.full((4,), 0.25))
    with pytest.raises(ac.AttentionError, match="steps is -1"):
        ac.bounce(five, 0, steps=-1)
