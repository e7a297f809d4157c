from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from attnchain_evals.cli.app import app
from attnchain_evals.cli.diffusion_demo import DiffusionDemo, region_figure, run, sample_figure
from attnchain_evals.reproduce.digit_segmentation import CANDIDATES
from attnchain_evals.tasks.textured_digits import TexturedDigits


def test_the_demo_writes_tables_and_pictures(tmp_path: Path) -> None:
    demo = run(tmp_path, images=2, seed=0, steps=2, candidates=CANDIDATES[1:2])
    assert "DiffSeg, TokenRank anchors" in demo.tables
    assert "docs/diffusion-results.md" in demo.tables
    assert sorted(file.name for file in demo.files) == ["bounces.png", "samples.png", "segments.png", "tables.md"]
    assert sorted(demo.files) == sorted(tmp_path.iterdir())


def test_the_command_runs_it_and_prints_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(out: Path, images: int, seed: int) -> DiffusionDemo:
        return DiffusionDemo(f"{images} images, seed {seed}", [out / "tables.md"])

    monkeypatch.setattr("attnchain_evals.cli.diffusion_demo.run", ran)
    said = CliRunner().invoke(app, ["demo", "--diffusion", "--images", "5", "--seed", "2", "--output", str(tmp_path)]).output
    assert "5 images, seed 2" in said
    assert str(tmp_path / "tables.md") in said.replace("\n", "")


def test_a_row_of_samples_for_each_guidance() -> None:
    samples = {"none": torch.zeros(3, 1, 4, 4), "TokenRank, scale 2": torch.ones(2, 1, 4, 4)}
    figure = sample_figure(samples)
    assert len(figure.axes) == 6
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["none", "TokenRank\nscale 2"]


def test_neither_object_nor_background_is_grey() -> None:
    batch = next(TexturedDigits("test", 2).batches(2))
    regions = torch.zeros(2, 32, 32).long()
    regions[:, 0, 0], regions[:, 0, 1] = 1, -1
    figure = region_figure(batch, {"a method": regions})
    assert len(figure.axes) == 2 * 3
    shown = np.asarray(figure.axes[2].images[0].get_array())
    assert shown[0, :3].tolist() == pytest.approx([1, 0.5, 0])
