"""The demo of the bundled model end to end, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnchain_evals.cli import digits_demo

from .command_line import refused, run


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(digits_demo.demo_methods()) == set(digits_demo.DEMO)
    monkeypatch.setattr(digits_demo, "DEMO", ("plain TokenRank", "class row", "RandomRanking"))
    out = tmp_path / "demo"
    printed = run("demo", "--images", "3", "--output", out)
    pictures = {"attributions.png", "layers.png", "bounces.png", "heads.png", "states.png"}
    reports = {"report.json", "report.md", "report.html"}
    pages = {"explorer.html"}
    assert {file.name for file in out.iterdir()} == {
        *pictures,
        *reports,
        *pages,
        "run.json",
        "rows-00000.csv",
        "examples.safetensors",
    }
    assert all(str(out / name) in printed for name in pictures | reports | pages)
    report = json.loads((out / "report.json").read_text())
    assert set(report["scores"]) == set(digits_demo.DEMO)
    data = report["run"]["configuration"]["data"]
    assert data == {"name": "ClutteredDigits", "split": "test", "length": 3, "seed": 0, "difficulty": 1.0}
    score = report["scores"]["plain TokenRank"]["srg/mean"]
    assert score["low"] <= score["value"] <= score["high"]
    for name in pictures:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100
    said = refused(monkeypatch, capsys, "bench", "report", out)
    assert "in the run, whose settings of it were others.\nRead the run in Python with its own metrics" in said


def test_the_deciding_patch_is_found() -> None:
    from attnchain_evals import ClutteredDigits, bundled_vit
    from attnchain_evals.cli.digits_demo import patch_on
    from attnchain_interp import capture

    example = ClutteredDigits("test", 1)[0]
    store = capture(bundled_vit(), example.image[None], layers=-1)
    row, column = divmod(patch_on(example.mask, store) - 1, 14)
    assert bool(example.mask[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].any())
