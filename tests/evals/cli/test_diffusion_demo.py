from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attnchain_evals.cli.app import app
from attnchain_evals.cli.diffusion_demo import DiffusionDemo, run
from attnchain_evals.reproduce.digit_segmentation import CANDIDATES


def test_the_demo_writes_tables_and_pictures(tmp_path: Path) -> None:
    demo = run(tmp_path, images=2, seed=0, steps=2, candidates=CANDIDATES[1:2])
    assert "DiffSeg, TokenRank anchors" in demo.tables
    assert "docs/diffusion-results.md" in demo.tables
    assert sorted(file.name for file in demo.files) == ["bounces.png", "samples.png", "segments.png", "tables.md"]
    assert sorted(demo.files) == sorted(tmp_path.iterdir())


def test_the_command_runs_it_and_prints_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(out: Path, images: int, seed: int, say: Any) -> DiffusionDemo:
        return DiffusionDemo(f"{images} images, seed {seed}", [out / "tables.md"])

    monkeypatch.setattr("attnchain_evals.cli.diffusion_demo.run", ran)
    said = CliRunner().invoke(app, ["demo", "--diffusion", "--images", "5", "--seed", "2", "--out", str(tmp_path)]).output
    assert "5 images, seed 2" in said
    assert str(tmp_path / "tables.md") in said.replace("\n", "")
