"""The scores of one photograph by a tiny model, and a baseline whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_interp import AttentionError
from studies.segments.__main__ import NAME, complete, continue_run, main, read, scored, study
from studies.segments.page import BOUNCE, OWN
from studies.segments.photographs import (
    KS,
    Cut,
    cut_scores,
    normalised_cut,
    object_maps,
    one_hot,
    partition_scores,
    partitions,
)


def preprocess(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.resize((56, 56)), np.float32)).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def reader() -> WholePatches:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14
    )
    return WholePatches(Dinov2Model(config).eval(), preprocess, 70)


@pytest.fixture
def photograph() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 60, (60, 90, 3), dtype=np.uint8)
    pixels[10:50, 30:60] += 180
    return Image.fromarray(pixels)


def test_every_method_scores_the_same_photograph(reader: WholePatches, photograph: Image.Image) -> None:
    truth = torch.zeros(2, 60, 90, dtype=torch.long)
    truth[0, 10:50, 30:60] = 1
    scores = partition_scores(partitions(reader, photograph), truth)
    assert {OWN, *(f"states, k = {k}" for k in KS)} <= set(scores)
    share = 40 * 30 / (60 * 90)
    joined = share**2 + (1 - share) ** 2
    covered = ((1 - share) ** 2 + share**2 + 1) / 2  # of two people, one of whom drew nothing
    assert scores["one segment"][0] == pytest.approx(covered)
    assert scores["one segment"][1] == pytest.approx((joined + 1) / 2, abs=1e-3)
    assert all(0 <= each[0] <= 1 and 0 <= each[1] <= 1 and each[2] >= 0 for each in scores.values())
    assert scores["one segment"][3:5] == [0, 0], "no boundary"
    raster = scores["a raster of 2 × 4"][3:]
    assert 0 < raster[0] < raster[1], "it crosses the boundary of the one who drew"


def test_objects(reader: WholePatches, photograph: Image.Image) -> None:
    mask = torch.zeros(60, 90, dtype=torch.bool)
    mask[10:50, 30:60] = True
    scores = cut_scores(object_maps(reader, photograph), mask)
    assert {BOUNCE, "one bounce, then walks; Otsu, refined", "class row"} <= set(scores)
    assert all(len(each) == 6 for each in scores.values())
    refined = [scores["one bounce, then walks; Otsu" + end] for end in ("", ", refined")]
    assert refined[0] != refined[1]


def test_an_object_is_cut_at_its_threshold_or_its_mean() -> None:
    mask = torch.tensor([[False] * 3 + [True]])
    scores = np.array([[0.0, 1.0, 1.5, 2.0]], np.float32)
    found = cut_scores({"mean": lambda: Cut(scores), "high": lambda: Cut(scores, 1.75)}, mask)
    assert [each[0] for each in found.values()] == [0.75, 1], "the share of right pixels"
    assert found["mean"][5] == found["high"][5], "average precision knows no threshold"


def test_the_normalised_cut_parts_two_groups() -> None:
    generator = np.random.default_rng(0)
    middle = np.repeat([[1.0, 0.0], [0.0, 1.0]], [30, 10], 0)
    side = normalised_cut((middle + 0.02 * generator.standard_normal((40, 2))).astype(np.float32))
    assert side.tolist() == [0] * 30 + [1] * 10, "the smaller group has the greatest entries"
    assert one_hot(np.array([5, 5, 9, 7]), (2, 2)).argmax(0).tolist() == [[0, 0], [2, 1]]


def test_folders_without_photographs_are_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images/test").mkdir(parents=True)
    for every, said in (("1", f"there is no .jpg in {tmp_path}/images/test."), ("0", "--every is 0")):
        words = ["--model", "none", "--bsds500", tmp_path, "--ecssd", tmp_path, "--output", tmp_path, "--every", every]
        monkeypatch.setattr("sys.argv", ["segments", *map(str, words)])
        with pytest.raises(SystemExit):
            main()
        assert said in capsys.readouterr().err


def test_a_folder_holds_scores_of_one_model_and_one_code(tmp_path: Path) -> None:
    identity = {"model": {"sha256": "a"}, "study": study()}
    continue_run(tmp_path, identity)
    (tmp_path / "bsds500.jsonl").write_text("")
    continue_run(tmp_path, identity)
    with pytest.raises(AttentionError, match=r'holds another run \(model.sha256: "b", not "a"\)'):
        continue_run(tmp_path, {**identity, "model": {"sha256": "b"}})
    (tmp_path / NAME).unlink()
    with pytest.raises(AttentionError, match="model: {…}, not nothing"):
        continue_run(tmp_path, identity)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    """So does one that lacks a method of a photograph."""
    rows, asked = tmp_path / "rows.jsonl", []
    rows.write_text(json.dumps(["a", {"m": [1.0], "old": [0.0]}]) + "\n" + json.dumps(["c", {"m": [3.0], "n": [3.0]}]) + "\n")

    def score(file: Path, known: dict[str, list[float]]) -> dict[str, list[float]]:
        asked.append((file.stem, sorted(known)))
        return {name: [2.0] for name in ("n", "m") if name not in known}

    scored([Path("a.jpg"), Path("b.jpg"), Path("c.jpg")], score, rows)
    assert sorted(asked) == [("a", ["m", "old"]), ("b", []), ("c", ["m", "n"])]
    assert len(rows.read_text().splitlines()) == 4
    whole = {"a": {"m": [1.0], "n": [2.0]}, "b": {"m": [2.0], "n": [2.0]}, "c": {"m": [3.0], "n": [3.0]}}
    assert complete(read(rows), ["m", "n"]) == whole
    assert [*complete(read(rows), ["n", "m"])["a"]] == ["n", "m"]
    assert [*complete(read(rows), ["m", "old"])] == ["a"]
