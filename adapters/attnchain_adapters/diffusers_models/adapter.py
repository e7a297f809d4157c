"""The adapter of diffusers: one forward of a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, final

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from attnchain_adapters.checks import arguments_of, check_ready
from attnchain_adapters.diffusers_models.families import FAMILIES
from attnchain_adapters.diffusers_models.guidance import guided_by_self_attention
from attnchain_adapters.diffusers_models.noising import denoised_image
from attnchain_adapters.diffusers_models.pipelines import denoiser_of, sampling_attention
from attnchain_adapters.diffusers_models.sequences import (
    ADVICE,
    attention_modules,
    family_of,
    layouts_of,
    sequence_meant,
    sequences_of,
)
from attnchain_adapters.recorders import recorder
from attnchain_interp import AttentionError
from attnchain_interp.capture import CaptureRequest, Expected, LoadedModel

Result = TypeVar("Result")


@final
class DiffusersAdapter:
    """Reads one sequence of tokens of a denoiser, chosen by kind and grid."""

    supported = f"{', '.join(FAMILIES)} (docs/diffusion.md)"

    capture_pipeline = staticmethod(sampling_attention)
    self_attention_guidance = staticmethod(guided_by_self_attention)
    denoise_image = staticmethod(denoised_image)

    def __repr__(self) -> str:
        return "DiffusersAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, ModelMixin)

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """See `FamilyAdapter.entries`."""
        return ("forward",) if isinstance(module, ModelMixin) and type(module).__name__ in FAMILIES else ()

    def recognises_pipeline(self, pipe: Any) -> bool:
        return isinstance(denoiser_of(pipe), nn.Module)

    def load_pipeline(self, name: str, **options: Any) -> Any:
        return DiffusionPipeline.from_pretrained(name, **options)

    def joins_text(self, pipe: Any) -> bool:
        return bool(family_of(denoiser_of(pipe)).joint)

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`. The source is a denoiser: the `transformer` or `unet` of a pipeline.

        `Reading.kind` is "joint" (text and image in one sequence), "self" (the image alone) or "cross" (from the image to the
        text); `Reading.grid` chooses among the grids of a UNet; `Reading.labels` are the texts of the prompt's tokens.
        """
        request.reading.check_known("a denoiser of diffusers", "kind", "grid", "labels")
        name = type(source).__name__
        given = arguments_of(source, inputs, kwargs, request.runs)
        sequence = sequence_meant(sequences_of(source, given), name, request.reading.kind, request.reading.grid)
        check_ready(source)
        wanted = request.select(sequence.layers)
        own = request.reading.labels
        labels = None if own is None else [own] * len(given[family_of(source).sample])
        tokens, queries = layouts_of(source, sequence, given, labels)
        heads = max(module.heads for layer, module in attention_modules(source).items() if layer in wanted)
        request.collector.expect(Expected(tokens, len(wanted), heads, True, queries))
        watched = {layer: [layer] for layer in sequence.layers}
        beside = attention_modules(source)
        with recorder(source, watched, set(wanted), request.collector, request.edit, beside) as recording:
            request.run(source, inputs, kwargs)
        seen = recording.metadata(request.layers, ADVICE, "Remove the module that attends from the denoiser.")
        metadata = {"adapter": "diffusers", "model": name, "kind": sequence.kind} | seen
        return request.result(wanted, metadata, sequence.layers)

    def load(self, name: str) -> LoadedModel:
        raise AttentionError(
            f"{name}: a denoiser alone has no sample input.",
            "Load its pipeline in Python and use capture_pipeline (docs/diffusion.md).",
        )
