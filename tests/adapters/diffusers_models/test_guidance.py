"""Self-attention guidance beside the formula written out, on a small unconditional pipeline and with a prompt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import accelerate
import pytest
import torch
from scipy.ndimage import gaussian_filter

import attnchain_interp as ac
from attnchain_interp import diffusion

from ...tiny_pipelines import diffusers, stable_diffusion, unet


def unconditional(prediction: str = "epsilon") -> Any:
    torch.manual_seed(0)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    sizes: dict[str, Any] = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    unet = diffusers.UNet2DModel(**sizes, **blocks, in_channels=1, out_channels=1, attention_head_dim=8).eval()
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False)
    pipe = diffusers.DDIMPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def store_of(pipe: Any, sample: torch.Tensor, step: int, layers: Any = -1) -> ac.AttentionStore:
    return ac.capture(pipe.unet, sample, step, reading=ac.Reading(grid=(8, 8)), layers=layers)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("importance", ["token-rank", "column-sum"])
def test_the_prediction_is_the_formulas(prediction: str, importance: Any) -> None:
    pipe, step = unconditional(prediction), 300
    sample = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        plain = pipe.unet(sample, step).sample
        with diffusion.self_attention_guidance(pipe, 0.5, importance=importance, kernel=5, sigma=1.0):
            guided = pipe.unet(sample, step).sample
        matrices = store_of(pipe, sample, step)[-1].maps.mean(1).double()
        if importance == "column-sum":
            mask = matrices.sum(1) > 1
        else:
            damped = 0.99 * matrices + 0.01 / 64
            mask = 64 * torch.linalg.matrix_power(damped, 4000)[:, 0] > 1
        mask = mask.view(2, 1, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
        level = pipe.scheduler.alphas_cumprod[step].double()
        x, out = sample.double(), plain.double()
        if prediction == "epsilon":
            image, noise = (x - (1 - level).sqrt() * out) / level.sqrt(), out
        elif prediction == "sample":
            image, noise = out, (x - level.sqrt() * out) / (1 - level).sqrt()
        else:
            image, noise = level.sqrt() * x - (1 - level).sqrt() * out, level.sqrt() * out + (1 - level).sqrt() * x
        blurred = torch.stack(
            [torch.as_tensor(gaussian_filter(one.numpy(), (0, 1, 1), mode="mirror", radius=2)) for one in image]
        )
        shown = level.sqrt() * torch.where(mask, blurred, image) + (1 - level).sqrt() * noise
        expected = plain + 0.5 * (plain - pipe.unet(shown.float(), step).sample)
    assert not torch.allclose(guided, plain, atol=1e-4)
    torch.testing.assert_close(guided, expected, atol=1e-4, rtol=1e-4)


def test_masks() -> None:
    pipe, sample = unconditional(), torch.randn(3, 1, 16, 16)
    store = store_of(pipe, sample, 300)
    rank, column = diffusion.important_tokens(store, "token-rank"), diffusion.important_tokens(store, "column-sum")
    drawn = diffusion.important_tokens(store, "random", torch.Generator().manual_seed(0))
    assert torch.equal(drawn.sum(1), rank.sum(1))
    assert not torch.equal(drawn, rank)
    assert torch.equal(drawn, diffusion.important_tokens(store, "random", torch.Generator().manual_seed(0)))
    assert torch.equal(column, store[-1].maps.mean(1).sum(1) > 1)


def test_a_sampling_is_guided_and_the_unet_put_back() -> None:
    pipe = unconditional()

    def image() -> torch.Tensor:
        found = pipe(batch_size=1, generator=torch.Generator().manual_seed(0), num_inference_steps=3, output_type="np").images
        return torch.as_tensor(found)

    plain = image()
    with diffusion.self_attention_guidance(pipe, scale=0.0):
        torch.testing.assert_close(image(), plain)
    with diffusion.self_attention_guidance(pipe, scale=2.0):
        assert not torch.allclose(image(), plain, atol=1e-4)
    with pytest.raises(ZeroDivisionError), diffusion.self_attention_guidance(pipe):
        _ = 1 / 0
    assert "forward" not in vars(pipe.unet)
    assert torch.equal(image(), plain)


def test_with_a_prompt_the_half_without_it_leads() -> None:
    pipe = stable_diffusion()
    pipe._guidance_scale = 7.5
    sample, text, step = torch.randn(1, 4, 16, 16).repeat(2, 1, 1, 1), torch.randn(2, 5, 32), 300
    which: Any = {"grid": (8, 8), "layers": "mid_block.attentions.0.transformer_blocks.0.attn1"}
    with torch.no_grad():
        plain = pipe.unet(sample, step, text).sample
        with diffusion.self_attention_guidance(pipe, **which):
            both = pipe.unet(sample, step, text, return_dict=False)[0]
        pipe._guidance_scale = 1.0  # none
        with diffusion.self_attention_guidance(pipe, **which):
            alone = pipe.unet(sample[:1], step, text[:1]).sample
    for half in (0, 1):
        torch.testing.assert_close((both - plain)[half], (alone - plain[:1])[0], atol=1e-5, rtol=1e-3)


def test_both_forwards_have_the_residuals_of_an_adapter() -> None:
    pipe, given = stable_diffusion(), []
    plain = pipe.unet.forward

    def forward(*inputs: Any, **kwargs: Any) -> Any:
        given.append(len(kwargs["down_intrablock_additional_residuals"]))
        return plain(*inputs, **kwargs)

    pipe.unet.forward = forward
    residuals = [torch.randn(1, 8, 16, 16), torch.randn(1, 16, 8, 8)]  # the UNet takes them out of the list
    with torch.no_grad(), diffusion.self_attention_guidance(pipe, grid=(8, 8)):
        text = torch.randn(1, 5, 32)
        pipe.unet(torch.randn(1, 4, 16, 16), 300, text, down_intrablock_additional_residuals=residuals)
    assert given == [2, 2]


def test_offloaded_weights() -> None:
    pipe = unconditional()
    sample = torch.randn(1, 1, 16, 16)
    with torch.no_grad(), diffusion.self_attention_guidance(pipe):
        expected = pipe.unet(sample, 300).sample
    accelerate.cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    hooked = pipe.unet.forward
    with torch.no_grad(), diffusion.self_attention_guidance(pipe):
        torch.testing.assert_close(pipe.unet(sample, 300).sample, expected)
    assert pipe.unet.forward is hooked


def test_threads_that_share_a_unet() -> None:
    first = stable_diffusion()
    parts: dict[str, Any] = first.components | {"scheduler": diffusers.DDIMScheduler.from_config(first.scheduler.config)}
    second = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    second.set_progress_bar_config(disable=True)

    def image(pipe: Any) -> torch.Tensor:
        call: dict[str, Any] = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "latent"}
        return pipe("a hat", generator=torch.Generator().manual_seed(0), **call).images

    def guided(pipe: Any) -> torch.Tensor:
        with diffusion.self_attention_guidance(pipe, grid=(4, 4)):
            return image(pipe)

    plain, led = image(first), guided(first)
    with ThreadPoolExecutor(2) as threads:
        with diffusion.self_attention_guidance(first, grid=(4, 4)):
            assert torch.equal(threads.submit(image, second).result(), plain)
        assert all(torch.equal(found, led) for found in threads.map(guided, [first, second] * 3))
    assert "forward" not in vars(first.unet)


def test_a_capture_beside_guidance_says_which_call_to_leave_out() -> None:
    pipe = unconditional()
    with (
        torch.no_grad(),
        pytest.raises(ac.AttentionError, match=r"(?s)self-attention guidance.*turn the guidance off"),
        diffusion.capture_pipeline(pipe),
        diffusion.self_attention_guidance(pipe),
    ):
        pipe.unet(torch.randn(1, 1, 16, 16), 3)


def test_other_guidance_and_more_channels_are_refused() -> None:
    pipe, step = stable_diffusion(), 300
    pipe._guidance_scale, pipe.do_perturbed_attention_guidance = 7.5, True
    sample, text = torch.randn(1, 4, 16, 16).repeat(3, 1, 1, 1), torch.randn(3, 5, 32)
    which: Any = {"grid": (8, 8), "layers": -1}
    with (
        torch.no_grad(),
        pytest.raises(ac.AttentionError, match="StableDiffusionPipeline guides by 3 parts of a batch"),
        diffusion.self_attention_guidance(pipe, **which),
    ):
        pipe.unet(sample, step, text)
    pipe = stable_diffusion()
    pipe.unet = unet(in_channels=9)
    with (
        torch.no_grad(),
        pytest.raises(ac.AttentionError, match="takes 9 channels and predicts 4"),
        diffusion.self_attention_guidance(pipe, **which),
    ):
        pipe.unet(torch.randn(1, 9, 16, 16), step, text[:1])


def test_what_is_refused_says_why() -> None:
    pipe = unconditional()
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (object(), {}, "object is not a pipeline that is known"),
        (pipe, {"importance": "max"}, "importance='max' is unknown"),
        (pipe, {"kernel": 4}, "odd kernel"),
        (pipe, {"kernel": 2.5}, "kernel is 2.5; it is the size of the blur"),
        (pipe, {"sigma": 0.0}, "positive sigma"),
        (pipe, {"sigma": "1"}, "positive sigma"),
        (pipe, {"scale": "1"}, "a number as scale"),
    ]
    for given, options, message in cases:
        with pytest.raises(ac.AttentionError, match=message), diffusion.self_attention_guidance(given, **options):
            pass
    with (
        pytest.raises(ac.AttentionError, match="there is no layer 'mid'"),
        diffusion.self_attention_guidance(pipe, layers="mid"),
    ):
        pipe.unet(torch.randn(1, 1, 16, 16), 3)
