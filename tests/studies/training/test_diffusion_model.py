from pathlib import Path

from safetensors.torch import load_file

from attnchain_evals.bundled.diffusion_model import build_unet
from studies.training.diffusion_model import train


def test_training_writes_weights_that_load(tmp_path: Path) -> None:
    train(32, 0, tmp_path / "weights.safetensors")
    build_unet().load_state_dict(load_file(tmp_path / "weights.safetensors"))
