"""`attnchain figure`: a file for each command, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_line import refused, run


@pytest.mark.parametrize(
    "arguments",
    [
        ("toy", "--start", "uniform"),
        ("layers", "bundled", "--heads", "lambda2", "--balanced"),
        ("heads", "bundled", "--order", "lambda2"),
        ("bounces", "bundled", "--steps", "0,2", "--start", "class", "--balanced", "--layer-weights", "late"),
        ("states", "bundled", "--maps", "projection"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_figure_is_written(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / f"{arguments[0]}.svg"
    assert run("figure", *arguments, "--output", file).strip() == str(file)
    assert "<svg" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy", "--start", "first"), "--start is 'first'; it is a token or uniform.\nWrite a number from 0 to 4"),
        (("toy", "--steps", "1,x"), "--steps is '1,x'"),
        (("layers", "timm:vit_tiny_patch16_224"), "timm:vit_tiny_patch16_224 needs an image."),
        (("layers", "bundled-encoder", "photo.png"), "takes no images"),
        (("layers", "bundled-encoder"), "takes no images"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in refused(monkeypatch, capsys, "figure", *arguments, "--output", tmp_path / "x.pdf")
