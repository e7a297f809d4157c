"""Attention out of models that nnsight has wrapped."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, final

from nnsight import Envoy
from torch import nn

from attnchain_adapters.tracing import warn_of_untried
from attnchain_interp import AttentionError
from attnchain_interp.capture import CaptureRequest, LoadedModel, adapter_named, adapter_of

Result = TypeVar("Result")


@final
class NnsightAdapter:
    """`TransformersModel(…)`, `NNsight(module)` and their parts, captured by the adapter of the module that they wrap.

    Inputs are those of the model's `trace`, and are prepared in the same way: weights are loaded, text is tokenised,
    padded and given positions, and its tokens are the layout's labels. Edits of the model apply. The bound method `generate`
    is captured as that of the module. Inside a trace there is `attnchain_adapters.tracing`.
    """

    supported = "whatever is recognised here, wrapped by TransformersModel or NNsight"

    def __repr__(self) -> str:
        return "NnsightAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, Envoy) or _bound(source) is not None

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        warn_of_untried()
        model, method = _bound(source) or (source, "__call__")
        if method not in ("__call__", "generate"):
            raise AttentionError(
                f"the method {method!r} of the nnsight model cannot be captured.",
                "Pass the model itself, or its generate: capture(model, prompt), capture(model.generate, prompt).",
            )
        _refuse(model, inputs, kwargs)

        def captured(*args: Any, **arguments: Any) -> Result:
            module = model._module  # not before: loading the weights puts another in its place
            adapter = adapter_of(module)
            if adapter is None:
                raise AttentionError(
                    f"the nnsight model wraps a {type(module).__name__}, which no adapter recognises.",
                    "Name its attention modules inside a trace: attnchain_adapters.tracing.reduce_layers(model, stationary,"
                    " layers=[…]).",
                )
            reading, tokenizer = request.reading, getattr(model, "tokenizer", None)
            if tokenizer is not None and "input_ids" in arguments:
                reading = replace(reading, tokenizer=tokenizer)
            asked = replace(request, reading=reading, wrapper="nnsight")
            return adapter.capture(module.generate if method == "generate" else module, args, arguments, asked)

        return _run(model, captured, inputs, kwargs)

    def module(self, source: Any) -> nn.Module:
        """Returns the module that an nnsight model wraps, with its weights."""
        if not getattr(source, "dispatched", True):
            source.dispatch()
        return source._module

    def generate(self, source: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Returns what the module generates from these inputs of `trace`, with the edits of the model."""
        return _run(source, lambda *args, **arguments: source._module.generate(*args, **arguments), inputs, kwargs)

    def load(self, name: str) -> LoadedModel:
        return adapter_named("transformers").load(name)  # nnsight names models as the hub does


def _run(model: Any, function: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The result of a function in place of the module's forward, in a trace of these inputs."""
    results: list[Any] = []

    def run(*args: Any, **arguments: Any) -> None:
        try:
            results.append(function(*args, **arguments))
        except AttentionError as error:
            results.append(error)
            raise

    try:
        with model.trace(*inputs, **kwargs, fn=run):
            pass
    except AttentionError:
        raise results[0] from None  # nnsight 0.7 raises another, with a traceback as its text
    return results[0]


def _bound(source: Any) -> tuple[Any, str] | None:
    """The nnsight model and the name of its method, of a bound method."""
    if inspect.ismethod(source):
        return (source.__self__, source.__name__) if isinstance(source.__self__, Envoy) else None
    if not inspect.isfunction(source) or source.__module__ != Envoy.__module__:
        return None
    held = inspect.getclosurevars(source).nonlocals  # nnsight 0.7 binds by a closure
    method = getattr(held.get("value"), "__name__", "")
    return held["self"], method.removeprefix("__nnsight_").removesuffix("__") if "nnsight" in method else method


def _refuse(source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuses a capture that cannot run here.

    Raises:
        AttentionError: no inputs, embeddings alone for nnsight 0.7, a trace that is open, or a remote capture.
    """
    if not inputs and not kwargs:
        raise AttentionError("no inputs came.", "Pass the inputs of the model's trace: capture(model, prompt).")
    if not inputs and "inputs_embeds" in kwargs and not hasattr(source, "_batch_size"):
        raise AttentionError(
            "the traces of nnsight 0.7 take no embeddings.",
            "Use nnsight 0.8, or the module itself: capture(model._module, …).",
        )
    instead = "Use attnchain_adapters.tracing.token_rank(model) inside the trace"
    if source.interleaver.interleaving:
        raise AttentionError("capture runs a forward of its own and cannot do so inside a trace.", f"{instead}.")
    if kwargs.get("remote"):
        raise AttentionError(f"remote={kwargs['remote']!r}: capture runs here.", f"{instead}, which can run remotely.")
