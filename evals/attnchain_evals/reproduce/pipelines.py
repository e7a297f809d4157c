"""A diffusion pipeline by name, on a device, in memory that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import torch

from attnchain_evals.bench.experiment import device_named
from attnchain_interp import AttentionError
from attnchain_interp.capture import adapter_named
from attnchain_interp.diffusion import PipelineAdapter

PRECISIONS: Final = ("float32", "float16", "bfloat16")


@final
@dataclass(frozen=True)
class Loading:
    """How a pipeline is loaded.

    Attributes:
        dtype: of the weights: "float32", "float16" or "bfloat16".
        offload: keep the weights on the CPU and bring one model at a time to the device.
    """

    dtype: str = "float32"
    offload: bool = False


def load_pipeline(name: str, device: str | None, loading: Loading) -> Any:
    """The pipeline of diffusers of this name, without progress bars.

    Args:
        name: on the hub, or a folder that `save_pretrained` wrote.
        device: CUDA where there is one when None.
        loading: how.

    Raises:
        AttentionError: diffusers cannot find or load it, or a dtype that is none of these.
        ImportError: diffusers is not installed; the message has the install line.
    """
    if loading.dtype not in PRECISIONS:
        raise AttentionError(f"dtype={loading.dtype!r} is unknown; use {', '.join(PRECISIONS)}.")
    adapter = adapter_named("diffusers")
    assert isinstance(adapter, PipelineAdapter), "that of diffusers is one"  # noqa: S101
    try:
        pipe = adapter.load_pipeline(name, torch_dtype=getattr(torch, loading.dtype))
    except (OSError, RuntimeError, ValueError) as error:
        raise AttentionError(f"diffusers could not load {name!r}: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    if loading.offload:
        pipe.enable_model_cpu_offload(device=device_named(device))
        return pipe
    return pipe.to(device_named(device))
