"""A diffusers pipeline from class numbers to images, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


@final
class ClassConditionalPipeline(DiffusionPipeline):
    """Samples a `UNet2DModel` whose last class embedding stands for no class.

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
