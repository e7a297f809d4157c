from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals import benchmark
from attnchain_evals.reproduce.sweep import bounces, sweep
from attnchain_evals.tasks.examples import Picture, Selection

from ...published import PLAIN
from ..bench_tasks import tiny_vit


def test_a_sweep_is_two_benchmarks(tmp_path: Path) -> None:
    class Pictures:
        identity = "random"

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Picture:
            generator = torch.Generator().manual_seed(index)
            image = torch.rand(3, 16, 16, generator=generator)
            return Picture(image, torch.rand(16, 16, generator=generator) > 0.5)

    model, data = tiny_vit(), Pictures()
    parts = Selection(data, range(0, 6, 2)), Selection(data, range(1, 6, 2))
    found = sweep(model, *parts, tmp_path, steps=(1, 2, 3))
    alone = benchmark(model, parts[1], {"m": ac.MultiBounce(steps=3, **PLAIN)}, list(found.test.metrics.values()))
    assert found.test.scores[bounces(3)]["miou"].value == pytest.approx(alone.scores["m"]["miou"].value)
    best = max((1, 2, 3), key=lambda step: found.validation.scores[bounces(step)]["miou"].value)
    assert found.chosen == best
    assert parts[0].identity["numbers"] == [0, 2, 4]
    with pytest.raises(ac.AttentionError, match="at least two numbers of bounces, each once"):
        sweep(model, *parts, tmp_path, steps=(2, 2))
