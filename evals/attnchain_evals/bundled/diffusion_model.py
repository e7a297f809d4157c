"""The bundled diffusion model: a diffusers `UNet2DModel` of digits, shipped with its weights, and its pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file
from torch import Tensor

from attnchain_evals.tasks.textured_digits import SIDE

WEIGHTS = Path(__file__).with_name("diffusion.safetensors")
CLASSES = 10
NO_CLASS = CLASSES  # stands for no class, in unconditional sampling and in classifier-free guidance


@final
class ClassConditionalPipeline(DiffusionPipeline):
    """A pipeline from class numbers to images, of a `UNet2DModel` whose last class embedding stands for no class.

    It is `DDIMPipeline` with classes. With classifier-free guidance both halves are one batch, the half without a class first.
    """

    unet: Any
    scheduler: Any

    def __init__(self, unet: UNet2DModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self._guidance_scale = 1.0

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int] | Tensor | None = None,
        batch_size: int = 1,
        num_inference_steps: int = 30,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        output_type: Literal["pt", "pil"] = "pt",
    ) -> ImagePipelineOutput:
        """Returns images (batch, channel, height, width) in [0, 1] as `.images`, or a list of PIL images.

        Args:
            class_labels: the class of each image. None samples without a class.
            batch_size: the number of images if there are no classes.
            num_inference_steps: of DDIM.
            guidance_scale: of classifier-free guidance. 1 turns it off.
            generator: of the noise.
            output_type: "pt" or "pil".
        """
        config, device = self.unet.config, self.unet.device
        none = config.num_class_embeds - 1
        labels = torch.full((batch_size,), none) if class_labels is None else torch.as_tensor(class_labels)
        labels = labels.to(device)
        shape = (len(labels), config.in_channels, config.sample_size, config.sample_size)
        image = randn_tensor(shape, generator=generator, device=device, dtype=self.unet.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._guidance_scale = 1.0 if class_labels is None else guidance_scale
        try:
            steps: Any = self.progress_bar(self.scheduler.timesteps)  # pyright: ignore[reportCallIssue] - a decorated method
            for timestep in steps:
                image = self.scheduler.step(self._predicted(image, timestep, labels, none), timestep, image).prev_sample
        finally:
            self._guidance_scale = 1.0  # a call of the denoiser alone holds one half
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type == "pil":
            return ImagePipelineOutput(self.numpy_to_pil(image.cpu().permute(0, 2, 3, 1).float().numpy()))  # pyright: ignore
        return ImagePipelineOutput(image)  # pyright: ignore[reportArgumentType] - diffusers gives tensors in it too

    def _predicted(self, image: Tensor, timestep: Tensor, labels: Tensor, none: int) -> Tensor:
        if not self.do_classifier_free_guidance:
            return self.unet(image, timestep, labels).sample
        both = torch.cat([torch.full_like(labels, none), labels])
        free, told = self.unet(torch.cat([image, image]), timestep, both).sample.chunk(2)
        return free + self._guidance_scale * (told - free)


def build_unet() -> UNet2DModel:
    """Returns the bundled architecture, freshly initialised: 16, 48 and 96 channels, attention on 16 × 16 and 8 × 8 tokens."""
    return UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 48, 96),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=CLASSES + 1,
    )


def build_scheduler() -> DDIMScheduler:
    """Returns DDIM on the cosine schedule. The model predicts v = √ᾱ ε − √(1 − ᾱ) x₀."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=True
    )


def bundled_diffusion() -> ClassConditionalPipeline:
    """Returns the trained model in its pipeline: `pipe(class_labels=[3, 5]).images` (batch, 1, 32, 32) in [0, 1].

    See `CARD.md` beside the weights. `python -m studies.training.diffusion_model` trains it.
    """
    unet = build_unet()
    unet.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    pipe = ClassConditionalPipeline(unet.eval(), build_scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe
