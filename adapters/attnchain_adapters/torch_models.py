"""Attention out of plain PyTorch models: whatever goes through `nn.MultiheadAttention`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, Generic, TypeVar, final, get_args

import torch
from torch import Tensor, nn

from attnchain_adapters.checks import CROSS_ATTENTION, check_image, check_ready, check_shown
from attnchain_adapters.recorders import recorder
from attnchain_interp import AttentionError, Role, TokenLayout
from attnchain_interp.capture import CaptureRequest, Expected, LoadedModel, StackKind
from attnchain_interp.checks import check_one_of
from attnchain_interp.store import select_layers

Result = TypeVar("Result")

_WINDOWS: Final = "attends within windows, which are folded into the batch; a walk over the image cannot cross them"
_REFUSED: Final = {
    "torchvision.models.swin_transformer.SwinTransformer": _WINDOWS,
    "torchvision.models.video.swin_transformer.SwinTransformer3d": _WINDOWS,
    "torchvision.models.maxvit.MaxVit": _WINDOWS,
    "torchvision.models.video.mvit.MViT": "pools its queries and keys, so its maps are rectangular",
}
_ELSEWHERE: Final = {"timm", "transformers", "diffusers"}  # frameworks whose models have adapters of their own


@final
class TorchAdapter:
    """Modules of `nn.MultiheadAttention`, alone or in layers: `nn.TransformerEncoder`, torchvision's ViT, users' own."""

    supported = "modules that hold nn.MultiheadAttention (nn.Transformer and its parts, torchvision's VisionTransformer)"

    def __repr__(self) -> str:
        return "TorchAdapter()"

    def recognises(self, source: Any) -> bool:
        if not isinstance(source, nn.Module):
            return False
        attends = any(isinstance(module, nn.MultiheadAttention) for module in source.modules())
        return attends or not _REFUSED.keys().isdisjoint(_classes(source))

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`.

        `Reading.kind` is "encoder", "decoder" or "cross"; a model with several sequences needs it. `Reading.tokens` is the
        layout of the tokens (of the keys, in cross-attention). Without a layout the tokens are text, as many as the first
        layer gets, and padding where its key padding mask says so.
        """
        with _Watch(source, inputs, kwargs, request) as watch:
            source(*inputs, **kwargs)
        return watch.result()

    def is_encoder_decoder(self, source: Any) -> bool:
        attention = [name for name, module in source.named_modules() if isinstance(module, nn.MultiheadAttention)]
        return {"encoder", "decoder", "cross"} <= {_kind(source, name) for name in attention}

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
            source(*inputs, **kwargs)
        return {kind: watch.result() for kind, watch in watches.items()}

    def load(self, name: str) -> LoadedModel:
        """One of torchvision's models."""
        from torchvision.models import get_model, get_model_weights

        weights: Any = get_model_weights(name)["DEFAULT"]
        model: Any = get_model(name, weights=weights).eval()
        transform = weights.transforms()

        def preprocess(image: Any) -> Tensor:
            return transform(image.convert("RGB"))[None]

        return LoadedModel(model, preprocess, {"x": torch.rand(1, 3, model.image_size, model.image_size)})


class _Watch(Generic[Result]):
    """While open, tells the collector what comes, and gives it the attention of the chosen layers of one kind."""

    def __init__(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> None:
        request.reading.check_known("a plain PyTorch model", "kind", "tokens")
        kind, tokens = _kind_asked(request.reading.kind), request.reading.tokens
        for each in _classes(source):
            if each in _REFUSED:
                raise AttentionError(f"{each} {_REFUSED[each]}. There is no chain over its tokens to capture.")
        places = {name or type(source).__name__: name for name in _meant(source, kind)}
        attention: dict[str, Any] = {name: source.get_submodule(place) for name, place in places.items()}
        check_ready(source)
        self._source, self._request, self._tokens = source, request, tokens
        self._wanted = select_layers(list(attention), request.layers)
        self._chosen = [attention[name] for name in self._wanted]
        self._kind: StackKind = kind or _kind(source, places[self._wanted[0]]) or "encoder"
        self._layout = tokens or _image(source, inputs, kwargs)
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
        """Tells the collector what comes, when the first layer is given its tokens."""
        call = inspect.signature(type(module).forward).bind(module, *args, **options).arguments
        if self._tokens is None:
            _doubt(call, module.batch_first, self._kind, self._given)
        if not self._told:
            self._told = True
            keys = self._layout or _text(call["key"], module.batch_first, call.get("key_padding_mask"))
            queries = _text(call["query"], module.batch_first) if self._kind == "cross" else None
            heads = max(each.num_heads for each in self._chosen)
            self._request.collector.expect(Expected(keys, len(self._chosen), heads, False, queries))

    def result(self) -> Result:
        """Returns the collector's result, after the forward."""
        check_shown(self._recorder.routes, self._wanted, "The model did not call them; choose others by layers=….")
        metadata = {"adapter": "torch", "model": type(self._source).__name__, "kind": self._kind}
        return self._request.result(self._wanted, metadata | {"route": self._recorder.route})


def _kind_asked(kind: Any) -> StackKind | None:
    if kind is not None:
        check_one_of("kind", kind, get_args(StackKind))
    return kind


def _meant(model: nn.Module, kind: StackKind | None) -> list[str]:
    """The names of the attention modules of a kind; where none is asked for, cross-attention is not meant.

    Raises:
        AttentionError: an unknown kind, none of it, or several; modules with an extra key, or of another framework's model.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    kinds = {name: _kind(model, name) for name in found}
    there = sorted({each or "encoder" for each in kinds.values()})
    options = " or ".join(f'kind="{each}"' for each in there)
    asked = {kind} if kind else set(there) - {"cross"} or {"cross"}
    if len(asked) > 1:
        raise AttentionError(f"{type(model).__name__} has several sequences; say which is meant: {options}.")
    if kind or "encoder" in asked:
        asked |= {None}
    chosen = [name for name in found if kinds[name] in asked]
    if not chosen:
        raise AttentionError(f'{type(model).__name__} has no attention of kind="{kind}"; it has {options}.')
    for name in chosen:
        _check(model, name, found[name])
    return chosen


def _kind(model: nn.Module, name: str) -> StackKind | None:
    """What a module is, where its place or its name tells."""
    parent, _, own = name.rpartition(".")
    around = model.get_submodule(parent)
    if own in CROSS_ATTENTION:
        return "cross"
    if isinstance(around, nn.TransformerDecoderLayer):
        return "decoder"
    return "encoder" if isinstance(around, nn.TransformerEncoderLayer) else None


def _doubt(call: Mapping[str, Any], batch_first: bool, kind: StackKind, given: Tensor | None) -> None:
    """
    Raises:
        AttentionError: self-attention from other tokens than to them, or within another batch than the model was given.
    """
    query, key = call["query"], call["key"]
    if kind != "cross" and query is not key and (query.shape != key.shape or not torch.equal(query, key)):
        raise AttentionError(
            f"a layer taken for self-attention has queries {tuple(query.shape)} that are not its keys {tuple(key.shape)}."
            ' If it attends to other tokens, choose it by layers=… with kind="cross"; if these are the same tokens under'
            " another normalisation or position, say so with their layout: tokens=TokenLayout(…)."
        )
    batch = _sizes(key, batch_first)[0]
    if given is not None and key.ndim == 3 and batch not in given.shape[: 1 if batch_first else 2]:
        raise AttentionError(
            f"a layer attends within a batch of {batch}, and the model was given {tuple(given.shape)}: windows or frames are"
            " folded into the batch. To read each as a chain of its own, say what its tokens are: tokens=TokenLayout(…), of"
            f" batch {batch}."
        )


def _check(model: nn.Module, name: str, module: nn.MultiheadAttention) -> None:
    parts = name.split(".")
    for around in (".".join(parts[:k]) for k in range(len(parts))):
        owner = type(model.get_submodule(around))
        framework = owner.__module__.split(".")[0]
        if framework in _ELSEWHERE:
            raise AttentionError(
                f"{name} belongs to {around or 'a model'}, a {owner.__name__} of {framework}, which has an adapter of its own;"
                f" capture that module (import {framework} first)."
            )
    if module.bias_k is not None or module.add_zero_attn:
        option = "add_bias_kv" if module.bias_k is not None else "add_zero_attn"
        raise AttentionError(
            f"{name} was made with {option}=True, which adds a key that is no token, so its maps are rectangular and rows over"
            " the tokens do not sum to one."
        )


def _classes(model: nn.Module) -> list[str]:
    """The full names of a model's class and of those it derives from."""
    return [f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__]


def _image(model: Any, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> TokenLayout | None:
    """The layout of torchvision's vision transformer; None for any other model."""
    if "torchvision.models.vision_transformer.VisionTransformer" not in _classes(model):
        return None
    images: Any = inputs[0] if inputs else kwargs.get("x")
    height, width = check_image(type(model).__name__, images, (model.image_size, model.image_size))
    return TokenLayout.image(len(images), (height // model.patch_size, width // model.patch_size), [Role.CLASS])


def _sizes(tensor: Tensor, batch_first: bool) -> tuple[int, int]:
    """(batch, tokens) of what a module is given."""
    if tensor.ndim == 2:
        return 1, tensor.shape[0]
    return (tensor.shape[0], tensor.shape[1]) if batch_first else (tensor.shape[1], tensor.shape[0])


def _text(tensor: Tensor, batch_first: bool, padding: Tensor | None = None) -> TokenLayout:
    """Text tokens, but for padding: where its mask is true, or minus infinity."""
    if padding is None:
        return TokenLayout.text(torch.ones(_sizes(tensor, batch_first)))
    absent = padding if padding.dtype == torch.bool else padding == float("-inf")
    return TokenLayout.text(~absent.cpu().reshape(_sizes(tensor, batch_first)))
