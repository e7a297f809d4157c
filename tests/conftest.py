"""What several test files use."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may reach for a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models of a test are too small to be worth a second thread

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from attnchain_interp import AttentionStore, Role, TokenLayout

settings.register_profile(
    "suite", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-models", action="store_true", help="write docs/models.md as tests/adapters proves it")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device and there is none")


@pytest.fixture
def five() -> Tensor:
    """The 5-token example of the paper's authors (project page, intuition.png), as printed: rounded to 0.01."""
    return torch.tensor(
        [
            [0.01, 0.04, 0.02, 0.85, 0.08],
            [0.82, 0.04, 0.07, 0.01, 0.06],
            [0.80, 0.07, 0.03, 0.05, 0.05],
            [0.06, 0.06, 0.03, 0.04, 0.81],
            [0.53, 0.03, 0.03, 0.06, 0.35],
        ],
        dtype=torch.float64,
    )


@pytest.fixture
def logits() -> Tensor:
    """Attention logits (layer 3, batch 2, head 3, token 5, token 5): a class token and a 2 × 2 grid of patches."""
    return 2 * torch.randn(3, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def store(logits: Tensor) -> AttentionStore:
    return AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.image(2, (2, 2), [Role.CLASS]))
