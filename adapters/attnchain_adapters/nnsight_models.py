"""Attention out of models that nnsight has wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, final

from nnsight import Envoy, save

from attnchain_adapters.tracing import warn_of_untried
from attnchain_interp import AttentionError
from attnchain_interp.capture import CaptureRequest, LoadedModel, adapter_named, adapter_of

Result = TypeVar("Result")


@final
class NnsightAdapter:
    """`TransformersModel(…)`, `NNsight(module)` and their parts, captured by the adapter of the module that they wrap.

    Inputs are those of the model's `trace`, and are prepared in the same way: weights are loaded, text is tokenised,
    padded and given positions, and its tokens are the layout's labels. Inside a trace there is `attnchain_adapters.tracing`.
    """

    supported = "whatever is recognised here, wrapped by TransformersModel or NNsight"

    def __repr__(self) -> str:
        return "NnsightAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, Envoy)

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        warn_of_untried()
        _refuse(source, inputs, kwargs)
        args, kwargs = _prepared(source, inputs, kwargs)
        module = source._module  # not before: loading the weights puts another in its place
        adapter = adapter_of(module)
        if adapter is None:
            raise AttentionError(
                f"the nnsight model wraps a {type(module).__name__}, which no adapter recognises.",
                "Name its attention modules inside a trace: attnchain_adapters.tracing.reduce_layers(model, stationary,"
                " layers=[…]).",
            )
        reading, tokenizer = request.reading, getattr(source, "tokenizer", None)
        if tokenizer is not None and "input_ids" in kwargs:
            reading = replace(reading, tokenizer=tokenizer)
        return adapter.capture(module, args, kwargs, replace(request, reading=reading, wrapper="nnsight"))

    def load(self, name: str) -> LoadedModel:
        return adapter_named("transformers").load(name)  # nnsight names models as the hub does


def _refuse(source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuses a capture for which a forward of the module itself would give another result.

    Raises:
        AttentionError: no inputs, a trace that is open, a remote capture, or a model with edits.
    """
    if not inputs and not kwargs:
        raise AttentionError("no inputs came.", "Pass the inputs of the model's trace: capture(model, prompt).")
    instead = "Use attnchain_adapters.tracing.token_rank(model) inside the trace"
    if source.interleaver.interleaving:
        raise AttentionError("capture runs a forward of its own and cannot do so inside a trace.", f"{instead}.")
    if kwargs.get("remote"):
        raise AttentionError(f"remote={kwargs['remote']!r}: capture runs here.", f"{instead}, which can run remotely.")
    if source._edits:
        raise AttentionError(
            f"the model has {len(source._edits)} edits, which capture would not apply.",
            f"{instead}, or call model.clear_edits().",
        )


def _prepared(model: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the module in a trace of these inputs. The trace stops there."""
    with model.trace(*inputs, **kwargs) as tracer:
        called = save(model.inputs)
        tracer.stop()
    return called
