"""From a model and its inputs to an `AttentionStore` of attention or of contributions, through the adapter that knows it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, overload

import torch

from attnchain_interp.capture.adapter import CaptureRequest
from attnchain_interp.capture.collector import BlockCollector, Collector, Expected, Shown
from attnchain_interp.capture.contribution_collector import DefaultCollector, Maps, collector_of, warn_of
from attnchain_interp.capture.mean_collector import LayerMean, MixedLayers
from attnchain_interp.capture.reading import Reading, checked, separated
from attnchain_interp.capture.recognition import adapter_of
from attnchain_interp.capture.reducers import Reducer
from attnchain_interp.capture.reduction_collector import Reductions
from attnchain_interp.capture.source import check_holds_weights, module_of, uncompiled
from attnchain_interp.capture.store_collector import MAX_BYTES
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors
from attnchain_interp.store import AttentionStore, LayerSelection

Result = TypeVar("Result")


@overload
def capture(
    source: Any,
    *inputs: Any,
    layers: LayerSelection = ...,
    keep: Literal["auto", "maps", "factors"] | LayerMean = ...,
    max_bytes: int = ...,
    maps: Maps | None = ...,
    reading: Reading | None = ...,
    **kwargs: Any,
) -> AttentionStore: ...


@overload
def capture(
    source: Any,
    *inputs: Any,
    layers: LayerSelection = ...,
    keep: Sequence[Reducer],
    max_bytes: int = ...,
    maps: Maps | None = ...,
    reading: Reading | None = ...,
    **kwargs: Any,
) -> Reductions: ...


@in_turn
def capture(
    source: Any,
    *inputs: Any,
    layers: LayerSelection = "all",
    keep: Literal["auto", "maps", "factors"] | LayerMean | Sequence[Reducer] = "auto",
    max_bytes: int = MAX_BYTES,
    maps: Maps | None = "attention",
    reading: Reading | None = None,
    **kwargs: Any,
) -> AttentionStore | Reductions:
    """Captures the attention of one forward pass, layer by layer, with the layout of the tokens.

    Works on models as they come (fused attention included), under `no_grad`, and leaves them exactly as they were, also
    when the forward raises. Only the chosen layers are computed and held. A module that attends is a layer of the store, or
    `AttentionStore.unread` names it, or the capture is refused and names it.

    Args:
        source: a model (of timm, transformers, diffusers or nnsight, any other PyTorch module, or a module around one of
            these), a bound method of it (`model.generate`, `model.forward_features`), or any callable that returns an
            `AttentionStore`. A family of a framework is known by name. Any other module runs twice: a first forward finds what
            attends. A model that `torch.compile` wraps runs uncompiled, and the log says so.
        inputs, kwargs: the arguments of the model. `tokenizer=…` is short for `reading=Reading(tokenizer=…)`.
        layers: the layers to keep. See `AttentionStore.select`. The store has them in the order in which they run.
        keep: "maps" keeps (batch, head, query, key) of each layer. "factors" keeps its queries and keys, from which everything
            is computed in memory linear in the number of tokens. A list of reducers sees each layer as it passes, and keeps
            the small results alone. `LayerMean` keeps the mean of a text's layers, one map. "auto" keeps maps while they fit
            into `max_bytes`, and factors from there on. The choice is in the store's metadata, and logged.
        max_bytes: the limit for "auto"; 2 GiB.
        maps: "attention", the softmax's maps of each head; or contributions, how much of each token is in the output of the
            attention block at each token, one map (batch, 1, query, key) a layer: "norm" by the size of attention times
            values, "norm-res" and "norm-resln" with the block's input, "projection" along the block's output, "alti" by how
            much nearer a token brings it. `attnchain_interp.capture.contributions_of` has the formulas, and docs/methods.md
            says what counts. Each such capture proves itself: the parts must add up to the model's own output.
            None is the default of the model: "alti" for a text (no patches, or causal attention) whose blocks can be taken
            apart, else attention. The metadata name the choice, and a warning says why the attention of a text was read.
        reading: says which attention of the model is meant, adds labels, and lays out the tokens of a model of your own:
            `Reading(kind="decoder", tokenizer=…)`, `Reading(tokens=TokenLayout.image(grid=(14, 14), class_token=True))`.

    Returns:
        An `AttentionStore`; `Reductions` for reducers.

    Raises:
        AttentionError: the attention is not a chain over tokens, or its family has not been tried; attention that no layer
            owns, or that shows no map; several sequences, of which none was named; tokens whose layout is not known; a layer
            that does not exist; inputs that the model cannot take; dropout that is active; factors of a model that has none,
            or of contributions; maps that do not fit; contributions of a block that is not a sum over tokens, of attention to
            other tokens, of text while it is generated. Errors of the model's own forward pass through unchanged.

    >>> capture(lambda maps: AttentionStore.from_maps([maps]), torch.eye(2)[None, None]).names
    ['layer.0']
    """
    source = uncompiled(source)
    collector = collector_of(maps, keep, max_bytes)
    adapter = adapter_of(source)
    if adapter is not None:
        given = reading
        reading, named = separated(source, reading, kwargs)
        if isinstance(collector, BlockCollector):
            try:
                check_holds_weights(module_of(source))
            except AttentionError as refusal:
                if maps is not None:
                    raise
                warn_of(refusal)
                collector = collector_of("attention", keep, max_bytes)
        with torch.no_grad():
            try:
                return adapter.capture(source, inputs, named, CaptureRequest(collector, layers, reading))
            except MixedLayers:
                return capture(source, *inputs, layers=layers, max_bytes=max_bytes, maps=maps, reading=given, **kwargs)
            except AttentionError:
                if not isinstance(collector, DefaultCollector) or collector.refusal is None:
                    raise
                warn_of(collector.refusal)
            request = CaptureRequest(collector_of("attention", keep, max_bytes), layers, reading)
            return adapter.capture(source, inputs, named, request)
    if isinstance(source, AttentionStore):
        raise AttentionError("the source is a store, which holds maps already.", "Score it: method.score(store).")
    if isinstance(source, type) or not callable(source):
        what = f"the class {source.__name__}" if isinstance(source, type) else f"of type {type(source).__name__}"
        named = isinstance(source, str)
        fix = (
            f"Load the model first: AutoModel.from_pretrained({source!r})."
            if named
            else "Pass a model, or a callable that returns a store."
        )
        raise AttentionError(f"the source is {what}.", fix)
    reading = checked(reading)
    reading.check_known("a callable that returns a store")
    if maps not in (None, "attention"):
        raise AttentionError(
            f"maps={maps!r} is computed while a model runs, and the source is a callable that returns a store.",
            f"Capture the contributions in it: capture(model, …, maps={maps!r}).",
        )
    owner: object = getattr(source, "__self__", source)
    # a pipeline takes texts, and returns no store
    pipeline = any(kind.__module__.startswith("transformers.pipelines.") for kind in inspect.getmro(type(owner)))
    store = None if pipeline else source(*inputs, **kwargs, **reading.arguments)
    if not isinstance(store, AttentionStore):
        held = ("model", "func", *getattr(owner, "__dict__", ()))
        inner = next((name for name in held if module_of(getattr(owner, name, None)) is not None), "")
        name = type(owner).__name__
        raise AttentionError(
            f"the callable ({name}) {'is a pipeline' if pipeline else f'returned {type(store).__name__}'}; it must return an"
            " AttentionStore.",
            f"Pass the model that it calls, {name}.{inner}, with the inputs of the model."
            if inner
            else "To read a model, pass the model or one of its methods, and no function around it. Of maps make a store:"
            " AttentionStore.from_maps(your_maps).",
        )
    if layers != "all":
        store = store.only(layers)
    return (
        store
        if keep == "auto" or isinstance(keep, LayerMean)
        else _collected(store, collector_of("attention", keep, max_bytes))
    )


def _collected(store: AttentionStore, collector: Collector[Result]) -> Result:
    """The result of a collector for a store that is there already."""
    fused = all(isinstance(layer.attention, Factors) for layer in store)
    collector.expect(Expected(store.tokens, len(store), max(layer.heads for layer in store), fused, store.queries))
    for layer in store:
        norms = layer.value_norms
        made = None if norms is None else lambda norms=norms: norms
        collector.take(layer.name, Shown(layer.attention, layer.sink, made))
    return collector.result(store.names, store.metadata)
