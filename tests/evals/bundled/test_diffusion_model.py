from typing import Any

import torch

from attnchain_evals.bundled.diffusion_model import NO_CLASS, WEIGHTS, build_scheduler, build_unet, bundled_diffusion
from studies.diffusion.digit_classifier import trained_digit_classifier


def test_size_and_architecture() -> None:
    assert WEIGHTS.stat().st_size < 5_000_000
    unet = build_unet()
    assert unet.config.num_class_embeds == NO_CLASS + 1  # type: ignore[attr-defined]
    with torch.no_grad():
        noise = unet(torch.zeros(2, 1, 32, 32), 10, torch.tensor([0, NO_CLASS])).sample
    assert noise.shape == (2, 1, 32, 32)
    assert build_scheduler().config.prediction_type == "v_prediction"  # type: ignore[attr-defined]


def test_samples_depend_on_the_class_and_on_the_noise() -> None:
    pipe: Any = bundled_diffusion()

    def drawn(label: int, seed: int) -> torch.Tensor:
        return pipe([label], num_inference_steps=2, generator=torch.Generator().manual_seed(seed)).images

    assert torch.equal(drawn(3, 0), drawn(3, 0))
    assert not torch.allclose(drawn(3, 0), drawn(3, 1), atol=0.05)
    assert not torch.allclose(drawn(3, 0), drawn(7, 0), atol=0.05)


def test_samples_show_the_class_asked_for() -> None:
    labels, noise = torch.arange(30) % 10, torch.Generator().manual_seed(0)
    pipe: Any = bundled_diffusion()
    images = pipe(labels, num_inference_steps=8, guidance_scale=3.0, generator=noise).images
    assert images.shape == (30, 1, 32, 32)
    with torch.no_grad():
        right = trained_digit_classifier()(images).argmax(1) == labels
    assert float(right.float().mean()) > 0.8  # 1.00 and 0.97 of these seeds 0 and 1
