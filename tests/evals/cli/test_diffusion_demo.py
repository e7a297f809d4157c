from pathlib import Path

import pytest
import torch

from attnchain_evals.cli import digits_demo
from attnchain_evals.cli.diffusion_demo import run, sample_figure

from .command_line import run as command


def test_the_demo_draws_pictures(tmp_path: Path) -> None:
    files = run(tmp_path, seed=0, steps=2)
    assert [file.name for file in files] == ["samples.png", "walk.png"]
    assert sorted(files) == sorted(tmp_path.iterdir())
    digits = Path(digits_demo.__file__).read_text("utf-8")
    assert not [file for file in files if f'"{file.name}"' in digits], "the demos share a folder, if none is given"


def test_the_command_runs_it_and_prints_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnchain_evals.cli.diffusion_demo.run", lambda out, seed: [out / f"{seed}.png"])
    said = command("demo", "--diffusion", "--seed", "2", "--output", tmp_path)
    assert str(tmp_path / "2.png") in said.replace("\n", "")


def test_a_row_of_samples_for_each_guidance() -> None:
    samples = {"none": torch.zeros(3, 1, 4, 4), "TokenRank, scale 2": torch.ones(2, 1, 4, 4)}
    figure = sample_figure(samples)
    assert len(figure.axes) == 6
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["none", "TokenRank\nscale 2"]
