"""The adapter of timm's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, final

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import nn

from attnchain_adapters.checks import arguments_of, check_ready, in_place_of, is_run_by, tokens_advice
from attnchain_adapters.recorders import recorder
from attnchain_adapters.recording.axes import check_replaced
from attnchain_adapters.timm_models.families import FAMILIES, Family, family_of, known_class
from attnchain_adapters.timm_models.layouts import layout_of, without_prefix
from attnchain_adapters.torch_models import TorchAdapter
from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.capture import CaptureRequest, Expected, LoadedModel, rgb_image
from attnchain_interp.checks import check_one_of

Result = TypeVar("Result")

_ENTRIES: Final = ("forward", "forward_features", "forward_intermediates", "get_intermediate_layers")
_POOLING: Final = ("AttentionPoolLatent", "AttentionPoolPrr")


@final
class TimmAdapter:
    """Reads models whose attention goes from token to token of one grid. Refuses the others by name, with the reason."""

    supported = f"VisionTransformer, Eva, Beit and {len(FAMILIES) - 3} more classes of models (docs/models.md)"

    def __repr__(self) -> str:
        return "TimmAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, nn.Module) and any(kind.__module__.split(".")[0] == "timm" for kind in type(source).__mro__)

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """See `FamilyAdapter.entries`. For a family that is refused, `capture` gives the reason."""
        known = self.recognises(module) and known_class(module) is not None and any(map(_attends, module.modules()))
        return tuple(entry for entry in _ENTRIES if known and is_run_by(module, entry, "timm", "x"))

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`. `Reading.kind` is "encoder" (the default) or "pool", whose queries are a head's probes."""
        if request.reading.tokens is not None:  # the user says the layout: the model is read by what it computes
            return TorchAdapter().capture(source, inputs, kwargs, request)
        request.reading.check_known("a model of timm", "kind", "tokens")
        kind = request.reading.kind or "encoder"
        check_one_of("kind", kind, ("encoder", "pool"))
        family = family_of(source)
        name = type(source).__name__
        modules = dict(source.named_modules())
        encoder, pooling = _attention(modules, family), _of_classes(modules, _POOLING)
        attention = pooling if kind == "pool" else encoder
        if not attention:
            absent = "pooling head that attends" if kind == "pool" else f"attention module ({', '.join(family.attention)})"
            fix = "Choose another Reading(kind=…), or another model." if kind == "pool" else tokens_advice()
            raise AttentionError(f'kind="{kind}": this {name} has no {absent}.', fix)
        check_ready(source)
        wanted = request.select(list(attention))
        given = arguments_of(source, inputs, kwargs, request.runs)
        shared = list(encoder)[-1:] if kind == "pool" else wanted
        tokens, queries = layout_of(source, family, list(encoder), shared, given), None
        chosen = [attention[layer] for layer in wanted]
        if kind == "pool":
            tokens = tokens if getattr(source, "pool_include_prefix", True) else without_prefix(source, tokens)
            if (probes := getattr(chosen[0], "latent_len", None)) is not None:
                queries = TokenLayout(torch.full((tokens.batch, probes), int(Role.SPECIAL), device="cpu"))
        heads, fused = max(getattr(m, "num_heads", 1) for m in chosen), all(getattr(m, "fused_attn", False) for m in chosen)
        request.collector.expect(Expected(tokens, len(chosen), heads, fused, queries))
        watched = {layer: [layer] for layer in attention}
        beside = [*encoder, *pooling, *_of_classes(modules, family.attention + family.beside)]
        with recorder(source, watched, set(wanted), request.collector, request.edit, beside) as recording:
            request.run(source, inputs, kwargs)
        check_replaced("timm", source, lambda: (request.runs or source)(*inputs, **kwargs), watched, set(wanted), tokens.batch)
        advice = "Choose layers that this call runs, and whose maps can be read: layers=[…]."
        seen = recording.metadata(request.layers, advice, tokens_advice(tokens))
        return request.result(wanted, {"adapter": "timm", "model": name, "kind": kind} | seen, list(attention))

    def load(self, name: str) -> LoadedModel:
        model = timm.create_model(name, pretrained=True).eval()
        config = resolve_model_data_config(model)
        transform: Any = create_transform(**config)

        def preprocess(image: Any) -> torch.Tensor:
            return transform(rgb_image(image))[None]

        return LoadedModel(model, preprocess, {"x": torch.rand(1, *config["input_size"])})


def _attention(modules: Mapping[str, nn.Module], family: Family) -> dict[str, Any]:
    """The modules that attend among the tokens, in the order in which the model runs them."""
    found = _of_classes(modules, family.attention)
    known = [name for name in found if family.named in ("", name.rsplit(".", 1)[-1])]
    return in_place_of(modules, known, "timm")


def _attends(module: nn.Module) -> bool:
    name = type(module).__name__
    return "Att" in name or any(name in family.attention for family in FAMILIES.values())


def _of_classes(modules: Mapping[str, nn.Module], classes: tuple[str, ...]) -> dict[str, Any]:
    return {name: module for name, module in modules.items() if type(module).__name__ in classes}
