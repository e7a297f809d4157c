"""The protocol of an adapter, and the adapter that knows a model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from attnchain_interp.capture.collector import Collector
from attnchain_interp.capture.reading import Reading
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import brief
from attnchain_interp.store import LayerSelection

Result = TypeVar("Result")
Edit = Callable[[str, Tensor], Tensor]
StackKind = Literal["encoder", "decoder", "cross"]

GROUP: Final = "attnchain_interp.adapters"

log = logging.getLogger("attnchain_interp")


@dataclass(frozen=True)
class LoadedModel:
    """A model that was loaded by name.

    Attributes:
        model: the model, in eval mode.
        preprocess: turns a PIL image into the model's input (1, channel, height, width); None for a model without images.
        sample: keyword arguments of the model to try it with.
        reading: the options of a capture of the sample.
    """

    model: nn.Module
    preprocess: Callable[[Any], Tensor] | None
    sample: Mapping[str, Any]
    reading: Reading = field(default_factory=Reading)

    def __repr__(self) -> str:
        images = "images" if self.preprocess else "no images"
        return f"LoadedModel({type(self.model).__name__}, {images}, sample {brief(self.sample)})"


@dataclass(frozen=True)
class CaptureRequest(Generic[Result]):
    """Says what one capture asks of an adapter.

    Attributes:
        collector: takes the attention of each layer, and makes the result.
        layers: the layers to record. See `AttentionStore.select`.
        reading: the options. See `Reading`.
        edit: layer name and map (batch, head, query, key) → the map that the model goes on with. It is called in the model's
            graph where gradients are enabled. Without an edit the model computes as it would.
        wrapper: the name of the tool that wraps the model (nnsight), for the metadata.
    """

    collector: Collector[Result]
    layers: LayerSelection = "all"
    reading: Reading = field(default_factory=Reading)
    edit: Edit | None = None
    wrapper: str = ""

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Result:
        """Returns the collector's result of the layers `names`, with metadata that name the adapter and the model."""
        adapter = ", ".join(filter(None, [self.wrapper, metadata["adapter"]]))
        return self.collector.result(names, {**metadata, "adapter": adapter})


class Adapter(Protocol):
    """Gets attention out of the models of one framework.

    An entry point in the group `attnchain_interp.adapters` announces an adapter. The entry point has the import name of the
    framework (`timm`, `transformers`, …). The adapter is loaded only when the user has imported that framework. The adapter
    of `torch` is asked last, since every model is also a model of torch.
    """

    supported: str
    """Names the families of models that the adapter knows, for messages."""

    def recognises(self, source: Any) -> bool:
        """Returns whether the source belongs to the framework. `capture` may still refuse it, with the reason."""
        ...

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """Runs `source(*inputs, **kwargs)` once, and returns the result of the request's collector.

        The model is left as it was.

        Raises:
            AttentionError: the attention is not a chain over tokens, or the family has not been tried. The message has the
                reason.
        """
        ...

    def load(self, name: str) -> LoadedModel:
        """Returns the pretrained model of this name."""
        ...


@runtime_checkable
class EncoderDecoderAdapter(Adapter, Protocol):
    """An adapter that also reads an encoder, a decoder and its cross-attention in one forward."""

    def is_encoder_decoder(self, source: Any) -> bool:
        """Returns whether the source has all three."""
        ...

    def capture_encoder_decoder(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        requests: Mapping[StackKind, CaptureRequest[Result]],
    ) -> Mapping[StackKind, Result]:
        """Runs the source once, and returns the result of every layer of encoder, decoder and cross-attention."""
        ...


def adapters() -> Iterator[tuple[str, Adapter]]:
    """Yields framework name and adapter of every announced adapter whose framework has been imported; torch's comes last."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name == "torch", point.name)):
        if point.name in sys.modules:
            yield point.name, point.load()()


def adapter_of(source: Any) -> Adapter | None:
    """Returns the adapter that recognises a source, or None."""
    return next((adapter for _, adapter in adapters() if adapter.recognises(source)), None)


def required_adapter(source: Any, purpose: str, instead: str) -> Adapter:
    """Returns the adapter that recognises a source.

    Raises:
        AttentionError: no adapter does. The message begins with `purpose` and ends with `instead`.
    """
    adapter = adapter_of(source)
    if adapter is None:
        raise AttentionError(f"{purpose} a model that an adapter recognises; got {type(source).__name__}.", instead)
    return adapter


def adapter_named(framework: str) -> Adapter:
    """Imports a framework and returns its adapter.

    Raises:
        AttentionError: no adapter is announced under this name.
        ImportError: the framework is not installed. The message has the install line.
    """
    announced = {point.name: point for point in entry_points(group=GROUP)}
    if framework not in announced:
        raise AttentionError(f"there is no adapter for {framework!r}.", f"Use one of {', '.join(sorted(announced))}.")
    try:
        return announced[framework].load()()
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[{framework}]'") from error


def uncompiled(source: Any) -> Any:
    """Returns the model inside a `torch.compile` wrapper, or the source itself.

    Raises:
        AttentionError: a module was compiled in place, so its attention happens inside compiled code.
    """
    if not isinstance(source, nn.Module):
        return source
    original = source._modules.get("_orig_mod")
    if original is not None:
        log.warning("%s is compiled; the attention is that of the uncompiled model", type(original).__name__)
        source = original
    inside = [name or type(source).__name__ for name, module in source.named_modules() if _compiled(module)]
    if inside:
        raise AttentionError(
            f"{inside[0]} is compiled in place, and compiled code cannot be watched.",
            "Capture before module.compile(), or compile a wrapper: compiled = torch.compile(model).",
        )
    return source


def _compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules
