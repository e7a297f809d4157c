"""Which demo reads which options."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_line import refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--photos", "here", "--fetch"),
            "--photos and --fetch have no effect without --real.\nLeave them out, or add --real.",
        ),
        (("--diffusion", "--weights", "x"), "--weights has no effect without --real.\nLeave it out, or add --real."),
        (("--real", "--images", "64", "--seed", "9"), "--images and --seed have no effect with --real.\nLeave them out."),
        (("--diffusion", "--images", "64"), "--images has no effect with --diffusion.\nLeave it out."),
        (("--real", "--diffusion"), "--real and --diffusion are two demos"),
        (("--real", "--photos", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_options_that_would_say_nothing_are_refused(
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said in refused(monkeypatch, capsys, "demo", *options, "--output", tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()
