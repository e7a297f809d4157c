"""Fixtures that several test files use, and the rule of `.ci/run` about skipped tests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

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

# `.ci/run` sets this variable. A test that skips for another reason than these then fails.
NO_SKIPS = "ATTNCHAIN_CI"
ALLOWED_SKIPS = (
    "needs a CUDA device and there is none",
    # .ci/run tests these in a second environment
    "(nnterp|nnsight 0.7|transformer-lens|peft|lightning|sentence-transformers|torchao|bitsandbytes) is not installed",
    "(jinja2 3.1|vit-pytorch|x-transformers|open_clip|segment-anything|monai|jupyterlab|lxt) is not installed",
    "transformers builds no (dinat|funnel) from its defaults here",
    "needs real weights",  # where neither the hub nor a registry has them; .ci/run says so
)


ADAPTERS = "tests/adapters/"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-models", action="store_true", help="write docs/models.md as tests/adapters proves it")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n` one process runs the tests of a file, in their order.

    One process runs all of tests/adapters: the last of them compares docs/models.md with what the others have proved.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return ADAPTERS if file.startswith(ADAPTERS) else file

    return ByFile(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device and there is none")


def red_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip into a failure where `NO_SKIPS` is set, unless its reason is allowed."""
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get(NO_SKIPS):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{reason}\n{NO_SKIPS} is set: a test fails, and does not skip, unless tests/conftest.py lists why."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    red_if_skipped(report := (yield))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    red_if_skipped(report := (yield))
    return report


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
    return AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.image(2, (2, 2), prefix=[Role.CLASS]))


@pytest.fixture(scope="session")
def real_weights() -> Callable[[str], Path]:
    """Returns a function from the name of a real model (dinov2-small, smollm2, minilm) to its folder.

    `attnchain fetch NAMES -o DIR` fetches them, and $ATTNCHAIN_WEIGHTS names DIR, as in `.ci/run`. Else the test is skipped.
    """
    home = os.environ.get("ATTNCHAIN_WEIGHTS")
    if not home:
        pytest.skip("needs real weights: attnchain fetch dinov2-small smollm2 minilm -o DIR, then ATTNCHAIN_WEIGHTS=DIR")

    def folder(name: str) -> Path:
        from attnchain_evals.weights import fetched

        return fetched(name, home).path

    return folder
