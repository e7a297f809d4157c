"""`attnchain reproduce`: options become settings, and the first process prints the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals.reproduce import imagenet_segmentation, token_masking
from attnchain_evals.reproduce.experiment import Settings

from .command_line import run


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
    options = ("--data", "classes:here", "--model", "bundled", "--limit", "4", "--batch-size", "auto", "--device", "cpu")
    assert run("reproduce", *command, "--output", tmp_path, *options) == "the page\n"
    assert seen == [Settings("classes:here", "bundled", tmp_path, 4, "auto", "cpu")]
    monkeypatch.setenv("RANK", "1")
    assert run("reproduce", *command, "--output", tmp_path, *options) == ""
