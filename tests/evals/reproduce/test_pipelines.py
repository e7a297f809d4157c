from pathlib import Path

import pytest
import torch

from attnchain_evals.reproduce.pipelines import LazyPipeline, Loading, load_pipeline
from attnchain_interp import AttentionError

from ...tiny_pipelines import stable_diffusion


def test_a_pipeline_is_loaded_on_its_first_use_in_its_dtype(tmp_path: Path) -> None:
    model = LazyPipeline(str(tmp_path / "pipe"), "cpu", Loading("bfloat16"))
    assert next(model.parameters()).device.type == "cpu"
    stable_diffusion().save_pretrained(tmp_path / "pipe")
    assert model.pipe.unet.dtype == torch.bfloat16
    assert model.pipe is model.pipe


@pytest.mark.parametrize(
    ("loading", "message"), [(Loading("half"), "dtype='half' is unknown"), (Loading(), "diffusers could not load")]
)
def test_an_unknown_dtype_and_an_empty_folder_are_refused(loading: Loading, message: str, tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=message):
        load_pipeline(str(tmp_path), "cpu", loading)
