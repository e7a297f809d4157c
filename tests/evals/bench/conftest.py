"""A run that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from attnchain_evals.bench.runner import run

from ..bench_tasks import ALONE, plan, table


@pytest.fixture
def undisturbed(tmp_path: Path) -> pd.DataFrame:
    run(plan(), tmp_path / "whole", ALONE)
    return table(tmp_path / "whole", plan())
