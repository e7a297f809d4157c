from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals import bundled_diffusion
from attnchain_evals.bundled.diffusion_model import NO_CLASS


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_guidance_of_classes_mixes_both_predictions(pipe: Any) -> None:
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    pipe.scheduler.set_timesteps(1)
    step = pipe.scheduler.timesteps[0]
    with torch.no_grad():
        free, told = (pipe.unet(noise, step, torch.tensor([label])).sample for label in (NO_CLASS, 3))
    expected = pipe.scheduler.step(free + 2.5 * (told - free), step, noise).prev_sample
    generator = torch.Generator().manual_seed(0)
    mixed = pipe([3], num_inference_steps=1, guidance_scale=2.5, generator=generator).images
    torch.testing.assert_close(mixed, (expected / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)
    images = pipe([3], num_inference_steps=1, output_type="pil").images
    assert (len(images), images[0].size) == (1, (32, 32))


def test_of_both_halves_capture_keeps_that_of_the_class(pipe: Any) -> None:
    with ac.diffusion.capture_pipeline(pipe, grid=(8, 8)) as run:
        pipe([3, 4], num_inference_steps=2, guidance_scale=2.0)
    assert run.store.tokens.roles.shape == (2, 64)
    with ac.diffusion.capture_pipeline(pipe, grid=(16, 16)) as run:
        pipe(batch_size=3, num_inference_steps=2)
    assert run.store.maps().shape == (3, 1, 1, 256, 256)
    assert not pipe.do_classifier_free_guidance
