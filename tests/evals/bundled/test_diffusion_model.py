from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals.bundled.diffusion_model import NO_CLASS, WEIGHTS, build_scheduler, build_unet, bundled_diffusion
from studies.diffusion.digit_classifier import trained_digit_classifier


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_size_and_architecture() -> None:
    assert WEIGHTS.stat().st_size < 5_000_000
    unet = build_unet()
    assert unet.config.num_class_embeds == NO_CLASS + 1  # type: ignore[attr-defined]
    with torch.no_grad():
        noise = unet(torch.zeros(2, 1, 32, 32), 10, torch.tensor([0, NO_CLASS])).sample
    assert noise.shape == (2, 1, 32, 32)
    assert build_scheduler().config.prediction_type == "v_prediction"  # type: ignore[attr-defined]


def test_samples_depend_on_the_class_and_on_the_noise(pipe: Any) -> None:
    def drawn(label: int, seed: int) -> torch.Tensor:
        return pipe([label], num_inference_steps=2, generator=torch.Generator().manual_seed(seed)).images

    assert torch.equal(drawn(3, 0), drawn(3, 0))
    assert not torch.allclose(drawn(3, 0), drawn(3, 1), atol=0.05)
    assert not torch.allclose(drawn(3, 0), drawn(7, 0), atol=0.05)


def test_samples_show_the_class_asked_for(pipe: Any) -> None:
    labels, noise = torch.arange(30) % 10, torch.Generator().manual_seed(0)
    images = pipe(labels, num_inference_steps=8, guidance_scale=3.0, generator=noise).images
    assert images.shape == (30, 1, 32, 32)
    with torch.no_grad():
        right = trained_digit_classifier()(images).argmax(1) == labels
    assert float(right.float().mean()) > 0.8  # 1.00 and 0.97 of these seeds 0 and 1


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
