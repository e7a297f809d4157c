"""A diffusion pipeline by name, on a device, in memory that is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import torch
from torch import nn

from attnchain_evals.bench.experiment import device_named
from attnchain_evals.bench.model_loading import cached_names, loading_failure
from attnchain_interp import AttentionError
from attnchain_interp.capture import adapter_named
from attnchain_interp.checks import check_one_of
from attnchain_interp.diffusion import PipelineAdapter

PRECISIONS: Final = ("float32", "float16", "bfloat16")


@final
@dataclass(frozen=True)
class Loading:
    """The options of loading a pipeline.

    Attributes:
        dtype: of the weights: "float32", "float16" or "bfloat16".
        offload: keeps the weights on the CPU and brings one model at a time to the device.
    """

    dtype: str = "float32"
    offload: bool = False


@final
class LazyPipeline(nn.Module):
    """A pipeline of diffusers as the model of a benchmark, loaded on the first use of `pipe`: a finished run loads none."""

    def __init__(self, name: str, device: str | None, loading: Loading) -> None:
        super().__init__()
        self._name, self._device, self._loading = name, device_named(device), loading
        self.place = nn.Parameter(torch.empty(0, device=self._device))  # tells the benchmark the device

    @cached_property
    def pipe(self) -> Any:
        return load_pipeline(self._name, self._device, self._loading)


def load_pipeline(name: str, device: str, loading: Loading) -> Any:
    """Returns the pipeline of diffusers of this name on the device, without progress bars.

    Raises:
        AttentionError: diffusers cannot find or load the pipeline, or an unknown dtype.
        ImportError: diffusers is not installed; the message has the install line.
    """
    check_one_of("dtype", loading.dtype, PRECISIONS)
    adapter = adapter_named("diffusers")
    if not isinstance(adapter, PipelineAdapter):
        raise AttentionError(
            f"{type(adapter).__name__} loads no pipelines.", "Install the adapter of diffusers that ships here."
        )
    try:
        pipe = adapter.load_pipeline(name, torch_dtype=getattr(torch, loading.dtype))
    except (OSError, RuntimeError, ValueError) as error:
        raise loading_failure("diffusers", name, error, cached_names()) from error
    pipe.set_progress_bar_config(disable=True)
    if loading.offload:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)
