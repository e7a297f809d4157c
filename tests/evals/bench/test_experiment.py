"""A benchmark from names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnchain_evals.bench.experiment import batch_size_of, carry_out, device_named, read_result, set_up
from attnchain_interp import AttentionError

SETTINGS = {
    "model": "bundled",
    "data": "digits:validation",
    "limit": 3,
    "seed": 0,
    "device": "cpu",
    "baseline": None,
    "probe": None,
}


def test_names_make_a_model_data_and_a_grid() -> None:
    found = set_up("bundled", "digits:test", 2, 0, "cpu")
    assert (found.grid, found.class_token, found.model.training) == ((14, 14), True, False)
    assert found.data[0].image.shape == (3, 56, 56)
    assert set_up("bundled-encoder", "key-values:test", 2, 0, "cpu").grid is None


def test_a_result_is_read_again_by_the_names_in_its_folder(tmp_path: Path) -> None:
    options = {"methods": "Rollout,RandomRanking", "metrics": "acc,miou", "batch_size": "2", "sanity": 0, "grid": {}}
    result = carry_out(SETTINGS | options, tmp_path)
    again = read_result(tmp_path, "RandomRanking")
    assert again.scores == result.scores
    assert (result.baseline, again.baseline) == ("Rollout", "RandomRanking")
    with pytest.raises(AttentionError, match="there is no"):
        read_result(tmp_path / "none", None)


def test_devices_and_batch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (batch_size_of("auto"), batch_size_of("8"), batch_size_of(8)) == ("auto", 8, 8)
    with pytest.raises(AttentionError, match="batch size 'many' is neither a number nor auto"):
        batch_size_of("many")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert (device_named(None), device_named("cpu")) == ("cuda:2", "cpu")
