"""Reads the known model that runs inside another module or inside a bound method, while the whole runs as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final, TypeVar, final

import torch
from torch import Tensor, nn

from attnchain_interp.capture.adapter import (
    Adapter,
    CaptureRequest,
    EncoderDecoderAdapter,
    LoadedModel,
    StackKind,
    WatchingAdapter,
)
from attnchain_interp.capture.entries import Entries, Known
from attnchain_interp.capture.inside_collectors import CollectorInside, collector_inside
from attnchain_interp.capture.source import check_settled, module_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import names_given

MOVED_INPUTS: Final = "inputs at other places (sorted, shifted or turned)"
"""The `metadata["input"]` of a store whose tokens stand in another order than in the inputs: no scores are laid on these."""
Result = TypeVar("Result")
Results = TypeVar("Results")


@final
class InsideAdapter:
    """Reads the one known model that runs inside a module, or inside a bound method of one.

    The module or method runs as it is: output and gradients are its own. The known model is read when it is called, and the
    layout of the tokens comes from the arguments that it is called with. Layers have their paths in the module.

    Args:
        known: the models that may run.
        plain: the adapter of any model, which reads the whole where the user gives the layout of the tokens.
    """

    supported = "a module around one known model"

    def __init__(self, known: Sequence[Known], plain: Adapter | None = None) -> None:
        self._known, self._plain = list(known), plain

    def __repr__(self) -> str:
        return f"InsideAdapter({', '.join(map(str, self._known))})"

    def recognises(self, source: Any) -> bool:
        return module_of(source) is not None

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`. `Reading.tower` may be the path of the model that is meant."""
        if request.reading.tokens is not None and self._plain is not None and not inspect.ismethod(source):
            return self._plain.capture(source, inputs, kwargs, request)
        name = type(module_of(source)).__name__

        def read(known: Known, called: Any, args: Any, named: Any, runs: Any, told: Any) -> CollectorInside[Result]:
            given = [*args, *named.values()]
            outer = {str(place): value for place, value in enumerate(inputs)} | dict(kwargs)
            within = _within(request, name, known, given, runs, told, origin_of(given, outer))
            return known.adapter.capture(called, args, named, within)

        inside, outside = self._run(source, inputs, kwargs, request, read)
        return inside.finished(outside)

    def is_encoder_decoder(self, source: Any) -> bool:
        """See `EncoderDecoderAdapter`. The source has all three where the one outermost known model has."""
        below = {part for each in self._known for part in each.module.modules() if part is not each.module}
        outermost = [each for each in self._known if each.module not in below]
        adapter = outermost[0].adapter
        return (
            len(outermost) == 1
            and isinstance(adapter, EncoderDecoderAdapter)
            and adapter.is_encoder_decoder(outermost[0].module)
        )

    def capture_encoder_decoder(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        requests: Mapping[StackKind, CaptureRequest[Result]],
    ) -> Mapping[StackKind, Result]:
        """See `EncoderDecoderAdapter.capture_encoder_decoder`."""
        name = type(module_of(source)).__name__

        def read(
            known: Known, called: Any, args: Any, named: Any, runs: Any, told: Any
        ) -> Mapping[StackKind, CollectorInside[Result]]:
            if not isinstance(known.adapter, EncoderDecoderAdapter) or not known.adapter.is_encoder_decoder(called):
                raise AttentionError(
                    f"{known} runs inside {name}, and it is no encoder–decoder.", "Use capture_gradients(model, …)."
                )
            within: dict[StackKind, CaptureRequest[CollectorInside[Result]]]
            given = [*args, *named.values()]
            first = next((value for value in (*inputs, *kwargs.values()) if isinstance(value, Tensor)), None)
            origin = origin_of(given, {"0": first})  # the decoder is given another argument
            within = {kind: _within(request, name, known, given, runs, told, origin) for kind, request in requests.items()}
            return known.adapter.capture_encoder_decoder(called, args, named, within)

        inside, outside = self._run(source, inputs, kwargs, next(iter(requests.values())), read)
        return {kind: each.finished(outside) for kind, each in inside.items()}

    def load(self, name: str) -> LoadedModel:
        raise AttentionError(f"{name}: a module around a known model has no name.", "Load the model that is inside.")

    def _run(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        request: CaptureRequest[Any],
        read: Callable[..., Results],
    ) -> tuple[Results, list[str]]:
        """Runs the source. Returns the result of `read`, and the names of the modules that attend outside the model inside."""
        whole: Any = module_of(source)
        check_settled(whole)
        tower = request.reading.tower
        meant = [each for each in self._known if each.path == tower] or self._known
        with Entries(type(whole).__name__, meant, read) as entries, self._outside(whole, entries) as outside:
            replaced = getattr(whole, source.__name__) if inspect.ismethod(source) else source
            try:
                request.run(replaced, inputs, kwargs)
            except AttentionError as error:
                if not tower or not _beside(whole, meant, tower):
                    raise
                raise AttentionError(
                    f"{tower!r} is a module beside the known model {meant[0]}, and the layout of its tokens is not known.",
                    f'Give it: reading=ac.Reading(tower="{tower}", tokens=ac.TokenLayout.text()), or an image\'s.',
                ) from error
        result, known = entries.result()
        if outside and not names_given(request.layers) and tower != known.path:
            found = "; ".join(f"{name} ({kind})" for name, kind in outside.items())
            raise AttentionError(
                f"the forward attends outside of the known model {known}, in {found}.",
                f'To read that model alone: reading=ac.Reading(tower="{known.path}"). To read the rest:'
                f' reading=ac.Reading(tower="{next(iter(outside)).split(".")[0]}", tokens=…), with the layout of its tokens.'
                if known.path
                else "To read the known layers alone, name them: layers=[…].",
            )
        return result, list(outside)

    def _outside(self, whole: nn.Module, entries: Entries[Any]) -> AbstractContextManager[Mapping[str, str]]:
        """Gathers the modules that attend while no known model is read."""
        if not isinstance(self._plain, WatchingAdapter):
            return nullcontext({})
        return self._plain.outside(whole, lambda: entries.inside)


def _within(
    request: CaptureRequest[Result],
    name: str,
    known: Known,
    given: Sequence[Any],
    runs: Callable[..., Any],
    told: Callable[[Any], None],
    origin: str | None = None,
) -> CaptureRequest[CollectorInside[Result]]:
    """Returns the request to the adapter of the known model, for a collector that gets the full paths of layers.

    The metadata say where the model stands in the source `name`, the size of its images, if there are any, and the `origin` of
    its tokens, if they are not those of the first argument of the source.
    """
    reading, edit = request.reading, request.edit
    prefix, metadata = "", {}
    if known.path:
        prefix, metadata = f"{known.path}.", {"inside": f"{name}.{known.path}"}
    images = [tensor for tensor in given if isinstance(tensor, Tensor) and tensor.ndim == 4]
    if images:
        metadata["images"] = f"{images[0].shape[2]}×{images[0].shape[3]}"
    if origin is not None:
        metadata["input"] = origin
    if reading.tower == known.path:
        reading = replace(reading, tower=None)
    renamed = edit and (lambda name, maps: edit(prefix + name, maps))
    own: Any = request  # of another collector
    collector = collector_inside(request.collector, prefix, metadata)
    return replace(own, collector=collector, reading=reading, edit=renamed, runs=runs, path=known.path, told=told)


def _beside(whole: nn.Module, known: Sequence[Known], name: str) -> bool:
    """Whether a name is that of a module outside of the known models."""
    inside = any(f"{name}.".startswith(f"{each.path}.") for each in known if each.path) or any(not each.path for each in known)
    return name in dict(whole.named_modules()) and not inside


def origin_of(given: Sequence[Any], outer: Mapping[str, Any]) -> str | None:
    """Returns in words which tokens a model inside is given, where they are not those of the first argument of the source.

    They are those of another argument, as it is or in part, or those of the first one at other places. None where the model is
    given the first one, or nothing that is one of them: a tensor that the source has made.
    """
    places = {name: _place(value) for name, value in outer.items() if isinstance(value, Tensor)}
    tensors = [value for value in given if isinstance(value, Tensor)]
    inner = {_place(value) for value in tensors} - {None}
    there = [name for name, place in places.items() if place in inner]
    if there and next(iter(places)) not in there:
        return f"argument {there[0]}"
    first = next((value for value in outer.values() if isinstance(value, Tensor)), None)
    return None if first is None or not _moved(tensors, first) else MOVED_INPUTS


@torch.no_grad()
def _moved(given: Sequence[Tensor], first: Tensor) -> bool:
    """Returns whether the values of `first` are given in another order, or one place beside their own. Channels may change."""

    def sorts(tensor: Tensor) -> bool:
        return _place(tensor) is not None and not tensor.is_meta and not tensor.is_complex()

    alike = [each for each in given if each.shape == first.shape and each.dtype == first.dtype and sorts(each)]
    if first.ndim < 2 or not sorts(first) or not alike:
        return False
    mine, *others = (_without_channels(each.detach()).to(first.device) for each in (first, *alike))
    if any(torch.equal(each, mine) for each in others):
        return False
    values = mine.flatten().sort().values
    return any(torch.equal(each.flatten().sort().values, values) or _shifted(each, mine) for each in others)


def _without_channels(tensor: Tensor) -> Tensor:
    """Sorts the channels of images, and the features of embeddings: places stay where they are."""
    return tensor.sort({4: 1, 3: 2}[tensor.ndim]).values if tensor.ndim in (3, 4) else tensor


def _shifted(one: Tensor, other: Tensor) -> bool:
    """Returns whether one of two texts (batch, token) is the other, a token further on."""
    if one.ndim != 2 or one.shape[1] < 2:
        return False
    return any(torch.equal(late[:, 1:], early[:, :-1]) for late, early in ((one, other), (other, one)))


def _place(tensor: Tensor) -> int | None:
    """Where a tensor is stored; None where it has no storage of its own (sparse, nested and mapped tensors)."""
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return None
