"""The adapter of plain PyTorch models, which attend by `nn.MultiheadAttention`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn

from attnchain_adapters.checks import check_ready, check_shown
from attnchain_adapters.recorders import recorder
from attnchain_adapters.torch_models.layouts import check_tokens, image_layout, is_vision_transformer, text_layout
from attnchain_adapters.torch_models.stacks import REFUSED, check_kind, classes_of, kind_of, modules_meant
from attnchain_interp.capture import CaptureRequest, Expected, LoadedModel, StackKind

Result = TypeVar("Result")


@final
class TorchAdapter:
    """Reads modules of `nn.MultiheadAttention`, alone or in layers: `nn.TransformerEncoder`, torchvision's ViT, your own."""

    supported = "modules that hold nn.MultiheadAttention (nn.Transformer and its parts, torchvision's VisionTransformer)"

    def __repr__(self) -> str:
        return "TorchAdapter()"

    def recognises(self, source: Any) -> bool:
        if not isinstance(source, nn.Module):
            return False
        attends = any(isinstance(module, nn.MultiheadAttention) for module in source.modules())
        return attends or not REFUSED.keys().isdisjoint(classes_of(source))

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """See `FamilyAdapter.entries`. Of plain PyTorch models, torchvision's vision transformer has a layout of its own."""
        return ("forward",) if is_vision_transformer(module) else ()

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`.

        `Reading.kind` is "encoder", "decoder" or "cross"; a model with several sequences needs it. `Reading.tokens` is the
        layout of the tokens (of the keys, in cross-attention). Without a layout the tokens are text, as many as the first
        layer gets, and padding where its key padding mask says so.
        """
        with _Watch(source, inputs, kwargs, request) as watch:
            request.run(source, inputs, kwargs)
        return watch.result()

    def is_encoder_decoder(self, source: Any) -> bool:
        attention = [name for name, module in source.named_modules() if isinstance(module, nn.MultiheadAttention)]
        return {"encoder", "decoder", "cross"} <= {kind_of(source, name) for name in attention}

    def capture_encoder_decoder(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        requests: Mapping[StackKind, CaptureRequest[Result]],
    ) -> Mapping[StackKind, Result]:
        """See `EncoderDecoderAdapter.capture_encoder_decoder`. `Reading.tokens` is the layout of the encoder's tokens."""
        with ExitStack() as opened:
            watches: dict[StackKind, _Watch[Result]] = {}
            for kind, request in requests.items():
                tokens = None if kind == "decoder" else request.reading.tokens
                own = replace(request, reading=replace(request.reading, kind=kind, tokens=tokens))
                watches[kind] = opened.enter_context(_Watch(source, inputs, kwargs, own))
            next(iter(requests.values())).run(source, inputs, kwargs)
        return {kind: watch.result() for kind, watch in watches.items()}

    def load(self, name: str) -> LoadedModel:
        """Returns one of torchvision's models."""
        from torchvision.models import get_model, get_model_weights

        weights: Any = get_model_weights(name)["DEFAULT"]
        model: Any = get_model(name, weights=weights).eval()
        transform = weights.transforms()

        def preprocess(image: Any) -> Tensor:
            return transform(image.convert("RGB"))[None]

        return LoadedModel(model, preprocess, {"x": torch.rand(1, 3, model.image_size, model.image_size)})


class _Watch(Generic[Result]):
    """While open, announces the capture to the collector and gives it the attention of the chosen layers of one kind."""

    def __init__(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> None:
        request.reading.check_known("a plain PyTorch model", "kind", "tokens")
        kind, tokens = check_kind(request.reading.kind), request.reading.tokens
        places = {name or type(source).__name__: name for name in modules_meant(source, kind)}
        attention: dict[str, Any] = {name: source.get_submodule(place) for name, place in places.items()}
        check_ready(source)
        self._source, self._request, self._tokens = source, request, tokens
        self._wanted = request.select(list(attention))
        self._chosen = [attention[name] for name in self._wanted]
        self._kind: StackKind = kind or kind_of(source, places[self._wanted[0]]) or "encoder"
        self._layout = tokens or image_layout(source, inputs, kwargs)
        self._given = next((value for value in (*inputs, *kwargs.values()) if isinstance(value, Tensor)), None)
        self._told = False
        watched = {places[name]: [name] for name in self._wanted}
        self._recorder = recorder(source, watched, set(self._wanted), request.collector, request.edit)

    def __enter__(self) -> _Watch[Result]:
        self._handles = [module.register_forward_pre_hook(self._shown, with_kwargs=True) for module in self._chosen]
        self._recorder.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._recorder.__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _shown(self, module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Announces the capture to the collector when the first layer is called."""
        call = inspect.signature(type(module).forward).bind(module, *args, **options).arguments
        if self._tokens is None:
            check_tokens(call, module.batch_first, self._kind, self._given)
        if not self._told:
            self._told = True
            keys = self._layout or text_layout(call["key"], module.batch_first, call.get("key_padding_mask"))
            queries = text_layout(call["query"], module.batch_first) if self._kind == "cross" else None
            heads = max(each.num_heads for each in self._chosen)
            self._request.collector.expect(Expected(keys, len(self._chosen), heads, False, queries))

    def result(self) -> Result:
        """Returns the collector's result, after the forward."""
        check_shown(self._recorder.routes, self._wanted, "The model did not call them. Choose others by layers=….")
        metadata = {"adapter": "torch", "model": type(self._source).__name__, "kind": self._kind}
        return self._request.result(self._wanted, metadata | {"route": self._recorder.route})
