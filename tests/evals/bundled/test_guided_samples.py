from typing import Any

import pytest
import torch

from attnchain_evals import bundled_diffusion
from attnchain_evals.bundled.guided_samples import NONE, Guidance, sample


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_guidances_start_from_the_same_noise_and_differ(pipe: Any) -> None:
    plain, labels = sample(pipe, NONE, 4, 0, 2, classes=True)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(sample(pipe, Guidance("token-rank", 0.0), 4, 0, 2, classes=True)[0], plain)
    guided = [sample(pipe, Guidance(name, 1.0), 4, 0, 2, classes=True)[0] for name in ("column-sum", "token-rank", "random")]
    for one in guided:
        assert 0 < float((one - plain).abs().mean()) < 0.2
    assert not torch.equal(guided[1], guided[2])
    assert sample(pipe, NONE, 4, 0, 2, classes=False)[1] is None
