"""The command for a GPU runs on the CPU with small sizes; what breaks costs its own row alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studies import on_gpu
from studies.speed.rows import Row

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a CUDA device")


def test_a_dry_run_writes_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "SMALL", on_gpu.Sizes((12,), 28, (1,), 28, 1))
    assert on_gpu.main(["--dry-run", "--output", str(tmp_path)]) == 0
    found: list[dict[str, Any]] = json.loads((tmp_path / "on_gpu.json").read_text("utf-8"))
    names = [row["name"] for row in found]
    assert [name for name in names if not name.startswith("cuda")] == [
        *("vit-large TokenRank", "vit-large GradientTokenRank", "dinov2 TokenRank 1", "dinov2 GradientTokenRank 1"),
        *(f"prompt {method} 12" for method in on_gpu.PROMPTS),
    ]
    for row in found:
        assert not row["reason"], row
        assert {figure["name"] for figure in row["figures"]} >= {"time", "ratio"}
    page = (tmp_path / "on_gpu.md").read_text("utf-8")
    assert all(f"| `{name}` | time |" in page for name in names)


@without_cuda
def test_without_a_device_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_gpu.main(["--output", str(tmp_path / "none")]) == 2
    assert "There is no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_what_breaks_and_what_has_no_time_left() -> None:
    def broken() -> Any:
        raise torch.OutOfMemoryError("tried to allocate 64 GiB")

    rows = [Row("large", "too large", broken), Row("later", "after it", list)]
    first, second = on_gpu.results(rows, 100)
    assert first.falls_short
    assert "tried to allocate 64 GiB" in first.reason
    assert not second.reason
    assert [result.reason for result in on_gpu.results(rows, 59)] == ["skipped: no time is left"] * 2


def test_the_sizes_are_those_of_the_issue() -> None:
    whole = list(on_gpu.rows(on_gpu.Sizes(), "cuda"))
    names = [row.name for row in whole]
    assert {"cuda-long-half", "vit-large TokenRank", "prompt TokenRank of attention 8192"} <= set(names)
    assert "prompt GradientTokenRank 32768" in names
    assert on_gpu.Sizes().pixels == 1036
    assert all(row.device == "cuda" for row in whole)
    assert len(set(names)) == len(names)
