"""The protocol of an adapter, and the adapter that knows a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from attnchain_interp.capture.collector import Collector
from attnchain_interp.capture.plain_run import plain_run
from attnchain_interp.capture.reading import Reading
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import brief
from attnchain_interp.store import LayerSelection, select_layers
from attnchain_interp.store.layers import STACK

Result = TypeVar("Result")
Edit = Callable[[str, Tensor], Tensor]
StackKind = Literal["encoder", "decoder", "cross"]

GROUP: Final = "attnchain_interp.adapters"


@dataclass(frozen=True)
class LoadedModel:
    """A model that was loaded by name.

    Attributes:
        model: the model, in eval mode.
        preprocess: turns a PIL image into the model's input (1, channel, height, width); None for a model without images.
        sample: keyword arguments of the model to try it with.
        reading: the options of a capture of the sample.
        whole: the model with its other towers, where `model` is one of several.
    """

    model: nn.Module
    preprocess: Callable[[Any], Tensor] | None
    sample: Mapping[str, Any]
    reading: Reading = field(default_factory=Reading)
    whole: nn.Module | None = None

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
        runs: is called in place of the source: a method of it, or its own forward where the source stands inside a model.
        path: of the source inside the model that the user passed; empty where they are the same. Names of layers that the
            user gives begin with it.
        told: is called with the output.
    """

    collector: Collector[Result]
    layers: LayerSelection = "all"
    reading: Reading = field(default_factory=Reading)
    edit: Edit | None = None
    wrapper: str = ""
    runs: Callable[..., Any] | None = None
    path: str = ""
    told: Callable[[Any], None] | None = None

    def run(self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Calls the source, or the part of it that the request names, in a `plain_run`, and returns the output."""
        with plain_run(source):
            output = (self.runs or source)(*inputs, **kwargs)
        if self.told is not None:
            self.told(output)
        return output

    def select(self, names: Sequence[str]) -> list[str]:
        """Returns the layers that are asked for, among the names of all layers of the source.

        Raises:
            AttentionError: see `select_layers`. The message has the paths in the model that the user passed.
        """
        prefix = f"{self.path}." if self.path else ""
        chosen = select_layers([prefix + name for name in names], self.layers)
        return [name.removeprefix(prefix) for name in chosen]

    def result(self, names: Sequence[str], metadata: Mapping[str, str], among: Sequence[str] = ()) -> Result:
        """Returns the collector's result of the layers `names`. The metadata name the adapter, the model and the maps.

        `among` are all layers of the source. Where some are left out the metadata name them all, and so tell the depth of a
        layer (`layer_weights`).
        """
        adapter = ", ".join(filter(None, [self.wrapper, metadata["adapter"]]))
        stack = {STACK: ", ".join(among)} if len(among) > len(names) else {}
        return self.collector.result(names, {"maps": "attention", **metadata, **stack, "adapter": adapter})


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
        """Runs the source once, by `request.run(source, inputs, kwargs)`, and returns the result of the request's collector.

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
class FamilyAdapter(Adapter, Protocol):
    """An adapter that tells models of its families from their parts, so that they are found inside other models.

    A source whose adapter has no `entries` is run by its `forward`.
    """

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """Returns the names of the methods that run a module as a whole; none where its family is not known."""
        ...


@runtime_checkable
class WrapperAdapter(Adapter, Protocol):
    """An adapter of a tool that wraps modules and runs them in its own way."""

    def module(self, source: Any) -> nn.Module:
        """Returns the module that a source wraps, with its weights."""
        ...

    def generate(self, source: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Returns what the module's `generate` returns, run in the way of the tool."""
        ...


@runtime_checkable
class WatchingAdapter(Adapter, Protocol):
    """An adapter that sees attention wherever it happens."""

    def outside(self, module: nn.Module, inside: Callable[[], bool]) -> AbstractContextManager[Mapping[str, str]]:
        """Notes, while open, which modules attend while `inside()` is false: the name of each, and its class."""
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


@cache
def _announced() -> dict[str, EntryPoint]:
    """The entry points of adapters by the name of the framework, torch's last. The files of all packages are read once."""
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name == "torch", point.name))
    return {point.name: point for point in points}


def adapters() -> Iterator[tuple[str, Adapter]]:
    """Yields framework name and adapter of every announced adapter whose framework has been imported; torch's comes last."""
    for point in _announced().values():
        if point.name in sys.modules:
            yield point.name, _loaded(point)


def _loaded(point: EntryPoint) -> Adapter:
    """Makes the adapter of an entry point. Any distribution may announce one."""
    try:
        adapter = point.load()()
    except Exception as error:
        raise AttentionError(
            f"the adapter for {point.name} of {_source(point)} cannot be loaded ({type(error).__name__}: {error}).",
            f"Update {_source(point)}, or uninstall it.",
        ) from error
    if absent := [name for name in ("supported", "recognises", "capture") if not hasattr(adapter, name)]:
        raise AttentionError(
            f"the adapter for {point.name} of {_source(point)} has no {' and no '.join(absent)}.",
            "Give its class what `Adapter` lists.",
        )
    return adapter


def _source(point: EntryPoint) -> str:
    """Returns the distribution that announces an entry point. Its name costs a millisecond: a file is read."""
    return point.dist.name if point.dist else point.value


def entries_of(adapter: Adapter, module: nn.Module) -> tuple[str, ...]:
    """Returns the names of the methods by which a module is run that an adapter knows; none where it does not know it."""
    if isinstance(adapter, FamilyAdapter):
        return adapter.entries(module)
    return ("forward",) if adapter.recognises(module) else ()


def adapter_named(framework: str) -> Adapter:
    """Imports a framework and returns its adapter.

    Raises:
        AttentionError: no adapter is announced under this name.
        ImportError: the framework is not installed. The message has the install line.
    """
    announced = _announced()
    if framework not in announced:
        raise AttentionError(f"there is no adapter for {framework!r}.", f"Use one of {', '.join(sorted(announced))}.")
    try:
        return announced[framework].load()()
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[{framework}]'") from error
