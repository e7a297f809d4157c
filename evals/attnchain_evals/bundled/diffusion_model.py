"""The bundled diffusion model: a diffusers `UNet2DModel` of digits, shipped with its weights, and its pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from attnchain_evals.tasks.textured_digits import SIDE

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from attnchain_evals.bundled.class_conditional import ClassConditionalPipeline

WEIGHTS = Path(__file__).with_name("diffusion.safetensors")
CLASSES = 10
NO_CLASS = CLASSES  # stands for no class, in unconditional sampling and in classifier-free guidance


def build_unet() -> UNet2DModel:
    """Returns the bundled architecture, freshly initialised: 16, 48 and 96 channels, attention on 16 × 16 and 8 × 8 tokens."""
    from diffusers.models.unets.unet_2d import UNet2DModel

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
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=True
    )


def bundled_diffusion() -> ClassConditionalPipeline:
    """Returns the trained model in its pipeline: `pipe(class_labels=[3, 5]).images` (batch, 1, 32, 32) in [0, 1].

    See `CARD.md` beside the weights. `python -m studies.training.diffusion_model` trains it.
    """
    from attnchain_evals.bundled.class_conditional import ClassConditionalPipeline

    unet = build_unet()
    unet.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    pipe = ClassConditionalPipeline(unet.eval(), build_scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe
