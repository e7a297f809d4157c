from pathlib import Path

from safetensors.torch import load_file

from studies.diffusion.digit_classifier import DigitClassifier
from studies.training.digit_classifier import train


def test_training_writes_weights_that_load(tmp_path: Path) -> None:
    train(128, 0, tmp_path / "weights.safetensors")
    DigitClassifier().load_state_dict(load_file(tmp_path / "weights.safetensors"))
