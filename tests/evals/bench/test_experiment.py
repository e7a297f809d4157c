"""A benchmark from names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnchain_evals import Passage
from attnchain_evals.bench.experiment import _firsts, batch_size_of, carry_out, device_named, read_result, set_up
from attnchain_evals.bench.settings import BenchSettings
from attnchain_evals.terminal import USAGE
from attnchain_interp import AttentionError


def test_names_make_a_model_data_and_a_grid() -> None:
    found = set_up("bundled", "digits:test", 2, 0, "cpu")
    assert (found.grid, found.class_token, found.model.training) == ((14, 14), True, False)
    assert found.data[0].image.shape == (3, 56, 56)
    assert set_up("bundled-encoder", "key-values:test", 2, 0, "cpu").grid is None


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("bundled", "key-values:test", "bundled takes images, and key-values:test has texts"),
        ("bundled-decoder", "digits:test", "bundled-decoder takes no images, and digits:test has images"),
    ],
)
def test_data_of_another_kind_than_the_model_takes(model: str, data: str, said: str) -> None:
    with pytest.raises(AttentionError, match=said):
        set_up(model, data, 2, 0, "cpu")


def test_a_result_is_read_again_by_the_names_in_its_folder(tmp_path: Path) -> None:
    options = {"methods": "Rollout,RandomRanking", "metrics": "acc,miou", "batch_size": "2", "limit": 3, "device": "cpu"}
    result = carry_out(BenchSettings.of(options), tmp_path)
    again = read_result(tmp_path, "RandomRanking")
    assert again.scores == result.scores
    assert (result.baseline, again.baseline) == ("Rollout", "RandomRanking")
    with pytest.raises(AttentionError, match="there is no"):
        read_result(tmp_path / "none", None)


def test_devices_and_batch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (batch_size_of("auto"), batch_size_of("8"), batch_size_of(8)) == ("auto", 8, 8)
    for size in ("many", "0", -4, "9" * 5000):
        with pytest.raises(AttentionError, match="batch size .* is neither a whole number from 1 on nor auto"):
            batch_size_of(size)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert (device_named(None), device_named("cpu")) == ("cuda:2", "cpu")
    for name in ("nope", "meta", "", "cpu:x"):
        with pytest.raises(AttentionError, match="there is no device"):
            device_named(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "Rolout"}, "Did you mean 'Rollout'"),
        ({"methods": "MetastableStates"}, "gives each token a state"),
        ({"methods": "Rollout(layers={})"}, "layers is {}"),
        ({"grid": {"TokenRank": {"damping": ["x"]}}}, "damping is 'x'"),
        ({"metrics": "nothing"}, "metric 'nothing' is unknown"),
        ({"model": "vit"}, "model 'vit' is unknown"),
        ({"device": "nope"}, "no device 'nope'"),
        ({"probe": "nowhere"}, "there is no folder nowhere"),
        ({"probe": "FOLDER"}, r"config\.json; train/CLASS/… and validation/CLASS/…, or probe\.json, are wanted"),
        ({"methods": "Rollout", "baseline": "TokenRank"}, "not among the methods"),
        ({"model": "hf:FOLDER", "methods": "LeGrad"}, "needs logits"),
    ],
)
def test_names_are_looked_at_before_anything_is_loaded(
    options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Dinov2Model"]}')
    monkeypatch.setattr("attnchain_evals.bench.experiment.load", None)
    written = {
        name: value.replace("FOLDER", str(tmp_path)) if isinstance(value, str) else value for name, value in options.items()
    }
    with pytest.raises(AttentionError, match=said) as refusal:
        carry_out(BenchSettings.of(written), tmp_path / "out")
    assert USAGE in refusal.value.__notes__
    assert not (tmp_path / "out").exists()


def test_the_first_texts_and_their_answers() -> None:
    def passage(text: int, answer: int) -> Passage:
        return Passage(torch.arange(text), explained=torch.arange(answer))

    inputs, answers = _firsts([passage(5, 2), passage(5, 3), passage(4, 2), passage(5, 2)], 4, nn.Linear(1, 1))
    assert inputs.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert answers is not None
    assert answers.tolist() == [[0, 1]] * 2
    inputs, answers = _firsts([Passage(torch.arange(5)), Passage(torch.arange(5))], 1, nn.Linear(1, 1))
    assert (inputs.tolist(), answers) == ([[0, 1, 2, 3, 4]], None)
