"""The adapter of any PyTorch model: its attention is known by what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar, final

import torch
from torch import Tensor, nn

from attnchain_adapters.checks import check_ready
from attnchain_adapters.recorders import recorder
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.recording.axes import check_axes
from attnchain_adapters.recording.outside_recorder import OutsideRecorder
from attnchain_adapters.torch_models.layouts import batch_of, image_layout, is_vision_transformer, layout_of, sequences_given
from attnchain_adapters.torch_models.sequences import Meant, check_family, kind_of, meant
from attnchain_adapters.torch_models.survey import Use, survey
from attnchain_interp import AttentionError, Factors, TokenLayout
from attnchain_interp.capture import (
    MOVED_INPUTS,
    CaptureRequest,
    Expected,
    LoadedModel,
    Shown,
    StackKind,
    plain_run,
    rgb_image,
)

Result = TypeVar("Result")

_ADVICE: Final = "The model attends otherwise than in the forward before. Make its forward deterministic."
_ALIKE: Final = 1e-3  # between the maps of an example alone and in its batch


@final
class TorchAdapter:
    """Reads any module whose attention multiplies values by a map: fused, by a softmax, or by `nn.MultiheadAttention`.

    A first forward without gradients looks which modules attend. A second one records them.
    """

    supported = "any module that multiplies values by a softmax over keys (docs/models.md)"

    def __repr__(self) -> str:
        return "TorchAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, nn.Module)

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`.

        `Reading.kind` is "encoder", "decoder" or "cross"; a model with several sequences needs it. `Reading.tower` is the
        beginning of the names of modules, as "visual". `Reading.tokens` is the layout of the tokens (of the keys, in
        cross-attention). Without a layout the tokens of a model that is given no image are text.
        """
        with _Forwards(source, inputs, kwargs, request.runs or source) as forwards:
            watching, found = forwards.open(request)
            request.run(source, inputs, kwargs)
        return forwards.result(request, watching, found)

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """See `FamilyAdapter.entries`. Torchvision's vision transformer has a layout of its own."""
        return ("forward",) if is_vision_transformer(module) else ()

    @contextmanager
    def outside(self, module: nn.Module, inside: Callable[[], bool]) -> Iterator[Mapping[str, str]]:
        """See `WatchingAdapter.outside`."""
        with OutsideRecorder(module, inside) as recorder:
            yield recorder.strangers

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
        opened: dict[StackKind, tuple[AttentionRecorder, Meant]] = {}
        first = next(iter(requests.values()))
        with _Forwards(source, inputs, kwargs, first.runs or source) as forwards:
            for kind, request in requests.items():
                tokens = None if kind == "decoder" else request.reading.tokens
                own = replace(request, reading=replace(request.reading, kind=kind, tokens=tokens))
                opened[kind] = forwards.open(own)
            first.run(source, inputs, kwargs)
        return {kind: forwards.result(request, *opened[kind]) for kind, request in requests.items()}

    def load(self, name: str) -> LoadedModel:
        """Returns one of torchvision's models."""
        from torchvision.models import get_model, get_model_weights

        weights: Any = get_model_weights(name)["DEFAULT"]
        model: Any = get_model(name, weights=weights).eval()
        transform = weights.transforms()

        def preprocess(image: Any) -> Tensor:
            return transform(rgb_image(image))[None]

        return LoadedModel(model, preprocess, {"x": torch.rand(1, 3, model.image_size, model.image_size)})


class _Forwards(ExitStack):
    """A model and its inputs: surveyed once, and recorded by as many recorders as are opened.

    Args:
        source: the model.
        inputs, kwargs: the arguments of `call`.
        call: what runs: the model, or a method of it.
    """

    def __init__(
        self, source: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], call: Callable[..., Any]
    ) -> None:
        super().__init__()
        check_family(source)
        check_ready(source)
        self._source, self._inputs, self._kwargs, self._call = source, inputs, kwargs, call
        self._given = list(sequences_given([*inputs, *kwargs.values()]))
        if any(tensor.is_nested for tensor in self._given):
            raise AttentionError(
                f"{type(source).__name__} was given sequences that are nested in one tensor, and have no map of one size.",
                "Pad them: nested.to_padded_tensor(0.0), and give the model a mask of the padding.",
            )
        self._image = image_layout(source, inputs, kwargs)
        self._named = {str(place): value for place, value in enumerate(inputs)} | dict(kwargs)
        self._uses = survey(source, self._run, self._named)

    def open(self, request: CaptureRequest[Any]) -> tuple[AttentionRecorder, Meant]:
        """Announces a capture to its collector, and opens its recorder."""
        reading, name = request.reading, type(self._source).__name__
        reading.check_known("a PyTorch model", "kind", "tower", "tokens")
        found = meant(self._source, self._uses, request, len(self._given))
        chosen = [use for use in found.uses if use.layer in found.wanted]
        first, stated = next((use for use in chosen if not use.folded), chosen[0]), reading.tokens or self._image
        batch = batch_of(first, self._given, stated)
        tokens = layout_of(first, batch, self._given, name, stated)
        square = batch > 1 and any(tensor.shape[:2] == (batch, len(tokens)) == (batch, batch) for tensor in self._given)
        if batch > 1 and (unclear := [use for use in chosen if square or use.folded or _swappable(use)]):
            self._check_order(unclear, batch)
        if unclear := {use.layer for use in chosen if self._untold(use, batch)}:
            check_axes(self._source, self._run, found.layers, unclear, batch)
        queries = None
        if found.kind == "cross":
            queries = TokenLayout.text(torch.ones(batch, first.shape[-2] if first.shape else 1, device="cpu"))
        heads = max(self._heads(use, batch) for use in chosen)
        fused = all(use.route == "sdpa" for use in chosen)
        request.collector.expect(Expected(tokens, len(chosen), heads, fused, queries))
        watching = recorder(
            self._source, found.layers, set(found.wanted), request.collector, request.edit, found.beside, batch
        )
        return self.enter_context(watching), found

    def result(self, request: CaptureRequest[Result], watching: AttentionRecorder, found: Meant) -> Result:
        """Returns the collector's result after the forward."""
        seen = watching.metadata(request.layers, _ADVICE, "Make its forward deterministic.")
        metadata = {"adapter": "torch", "model": type(self._source).__name__, "kind": found.kind}
        return request.result(found.wanted, metadata | self._argument(found.uses[0]) | seen, found.among)

    def _argument(self, use: Use) -> dict[str, str]:
        """The argument that holds the tokens, for the metadata, where it is not the first one; or that tokens were moved."""
        first = next((name for name, value in self._named.items() if isinstance(value, Tensor)), None)
        if use.arguments and first not in use.arguments:
            return {"input": f"argument {min(use.arguments)}"}
        return {"input": MOVED_INPUTS} if use.moved else {}

    def _run(self) -> Any:
        return self._call(*self._inputs, **self._kwargs)

    def _untold(self, use: Use, batch: int) -> bool:
        """Whether sizes do not tell what the axes of a map are: keys may be channels, or heads other tokens each."""
        if use.shape is None or use.width is None:
            return False
        heads = self._heads(use, batch)
        return use.shape[-2:] == (use.width, use.width) or heads not in (1, use.heads)

    def _heads(self, use: Use, batch: int) -> int:
        shape = use.shape or (1, 1)
        return shape[0] // batch if use.folded else shape[1]

    def _check_order(self, uses: Sequence[Use], batch: int) -> None:
        """Checks that examples come first where layers fold them and heads into one axis, or have as many heads or tokens.

        Raises:
            AttentionError: the first example alone, as far as the inputs can be taken apart, has another map.
        """

        def first(value: Any) -> Any:
            return value[:1] if isinstance(value, Tensor) and value.ndim and len(value) == batch else value

        def refusal(use: Use) -> AttentionError:
            return AttentionError(
                f"layer {use.layer!r} folds {batch} examples and their heads into one axis, or has as many heads or tokens,"
                " and which comes first is not known.",
                "Pass one example at a time.",
            )

        inputs, kwargs = tuple(map(first, self._inputs)), {name: first(value) for name, value in self._kwargs.items()}
        together = self._maps_of(uses, batch, self._run)
        try:
            alone = self._maps_of(uses, 1, lambda: self._call(*inputs, **kwargs))
        except Exception as error:
            raise refusal(uses[0]) from error
        for use in uses:
            own, among = (maps.get(use.layer) for maps in (alone, together))
            if own is None or among is None or own.shape[1:] != among.shape[1:] or _distance(own[0], among[0]) > _ALIKE:
                raise refusal(use)

    def _maps_of(self, uses: Sequence[Use], batch: int, run: Callable[[], Any]) -> dict[str, Tensor]:
        """The maps of some layers in a forward of its own."""
        kept, layers = _Kept(), {use.module: use.layers for use in uses}
        watching = AttentionRecorder(self._source, layers, {use.layer for use in uses}, kept, batch=batch)
        with torch.no_grad(), plain_run(self._source), watching:
            run()
        return kept.maps


@final
class _Kept:
    """Keeps maps as they come."""

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}

    def take(self, name: str, shown: Shown) -> None:
        self.maps[name] = shown.attention.maps() if isinstance(shown.attention, Factors) else shown.attention


def _swappable(use: Use) -> bool:
    """Whether there are as many heads as examples, so that their axes may be swapped. torch's own module keeps the order."""
    return use.shape is not None and use.route != "multi-head" and use.shape[0] == use.shape[1]


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
