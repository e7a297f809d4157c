"""`attnchain reproduce`: options become settings, and the first process prints the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals.reproduce import imagenet_segmentation, token_masking
from attnchain_evals.reproduce.experiment import Settings

from .command_line import refused, run


@pytest.mark.parametrize(
    ("module", "name", "command"),
    [
        (imagenet_segmentation, "imagenet_segmentation", ("imagenet-segmentation",)),
        (imagenet_segmentation, "sweep_bounces", ("imagenet-segmentation", "--sweep")),
        (token_masking, "token_masking", ("token-masking",)),
    ],
)
def test_options_become_settings(
    module: Any, name: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(module, name, lambda settings: seen.append(settings) or "the page")
    options = ("--data", "digits:test", "--model", "bundled", "--limit", "4", "--batch-size", "auto", "--device", "cpu")
    assert run("reproduce", *command, "--output", tmp_path, *options) == "the page\n"
    assert seen == [Settings("digits:test", "bundled", tmp_path, 4, "auto", "cpu")]
    monkeypatch.setenv("RANK", "1")
    assert run("reproduce", *command, "--output", tmp_path, *options) == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("imagenet-segmentation --model hf:/none --data nope", "data 'nope' is unknown"),
        (
            "imagenet-segmentation --model hf:/none --data imagenet-segmentation:none.mat",
            "there is no file or folder none.mat",
        ),
        ("token-masking --model nope --data digits:test", "model 'nope' is unknown"),
        ("token-masking --model hf:/none --data digits:test --batch-size x", "batch size 'x' is neither a whole number from"),
        ("token-masking --model hf:/none --data digits:test --batch-size 0", "batch size '0' is neither a whole number from"),
        ("token-masking --model hf:/none --data digits:test --device nope", "there is no device 'nope' here"),
        ("coco-segmentation --model nope", "model 'nope' is unknown"),
        ("coco-segmentation --split test", "Invalid value for '--split'"),
        ("flux-segmentation --data imagenet-segmentation:none.mat", "there is no file or folder none.mat"),
        ("flux-segmentation --dtype half", "Invalid value for '--dtype'"),
        ("flux-segmentation --heads most", "Invalid value for '--heads'"),
    ],
)
def test_names_are_checked_before_a_model_is_loaded(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(monkeypatch, capsys, "reproduce", *words.split(), "--output", "out", status=2)
    assert not list(tmp_path.iterdir())
