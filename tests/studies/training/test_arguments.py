import sys
from pathlib import Path

import pytest

from studies.training.arguments import image_training_arguments


def test_defaults_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train"])
    assert image_training_arguments("Trains.", Path("a.safetensors"), 100) == (100, 0, Path("a.safetensors"))
    monkeypatch.setattr(sys, "argv", ["train", "--images", "5", "--seed", "2", "--output", "b"])
    assert image_training_arguments("Trains.", Path("a.safetensors"), 100) == (5, 2, Path("b"))
