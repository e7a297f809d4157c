"""From a model and its inputs to an `AttentionStore`, through whichever adapter knows the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, Literal, Protocol, overload, runtime_checkable

import torch
from torch import Tensor, nn

from attnchain_interp.capture.collectors import MAX_BYTES, Keep, Keeping, Reductions, kept
from attnchain_interp.capture.reducers import Reducer
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import brief
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection

Kind = Literal["encoder", "decoder", "cross"]

GROUP: Final = "attnchain_interp.adapters"

log = logging.getLogger("attnchain_interp")


@dataclass(frozen=True)
class LoadedModel:
    """A model by name.

    Attributes:
        model: the model.
        preprocess: what turns a PIL image into its input (1, channel, height, width); None where it takes no images.
        sample: arguments of `capture` to try it with.
    """

    model: nn.Module
    preprocess: Callable[[Any], Tensor] | None
    sample: Mapping[str, Any]

    def __repr__(self) -> str:
        images = "images" if self.preprocess else "no images"
        return f"LoadedModel({type(self.model).__name__}, {images}, sample {brief(self.sample)})"


class Adapter(Protocol):
    """How attention gets out of one framework's models.

    An adapter is announced by an entry point in the group `attnchain_interp.adapters`, named as the framework is
    imported (`timm`, `transformers`, …). It is loaded only when the user has imported that framework: who holds a model
    of it has. The one for `torch` itself is asked last, since every model is also one of torch's.
    """

    supported: str
    """The model families it knows, for messages."""

    def recognises(self, source: Any) -> bool:
        """Whether this source is of its framework; `capture` may still refuse it, with the reason."""
        ...

    def capture(
        self, source: Any, inputs: tuple[Any, ...], layers: LayerSelection, keeping: Keeping, **kwargs: Any
    ) -> AttentionStore | Reductions:
        """What `keeping` keeps of one forward of `source(*inputs, **kwargs)`; the model is left as it was.

        `kwargs` hold the adapter's own options beside what the model is called with.

        Raises:
            AttentionError: this is no token chain, or not one that has been tried; the message has the reason.
        """
        ...

    def load(self, name: str) -> LoadedModel:
        """The pretrained model of this name."""
        ...


@runtime_checkable
class EncoderDecoderAdapter(Adapter, Protocol):
    """An adapter that reads an encoder, a decoder and its cross-attention in one forward; others need not."""

    def is_encoder_decoder(self, source: Any) -> bool:
        """Whether this source has all three."""
        ...

    def capture_encoder_decoder(
        self, source: Any, inputs: tuple[Any, ...], keepings: Mapping[Kind, Keeping], **kwargs: Any
    ) -> Mapping[Kind, AttentionStore | Reductions]:
        """As `capture` of every layer, of encoder, decoder and cross-attention, each with its own of `keepings`."""
        ...


def adapters() -> Iterator[tuple[str, Adapter]]:
    """Framework name and adapter, for every announced adapter whose framework has been imported; that of torch last."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name == "torch", point.name)):
        if point.name in sys.modules:
            yield point.name, point.load()()


def adapter_of(source: Any) -> Adapter | None:
    """The adapter that recognises a source; None where none does."""
    return next((adapter for _, adapter in adapters() if adapter.recognises(source)), None)


def adapter_named(framework: str) -> Adapter:
    """The adapter of a framework, imported for it.

    Raises:
        AttentionError: nothing is announced under this name.
        ImportError: the framework is not installed; the message has the install line.
    """
    announced = {point.name: point for point in entry_points(group=GROUP)}
    if framework not in announced:
        raise AttentionError(f"there is no adapter for {framework!r}; announced are {', '.join(sorted(announced))}.")
    try:
        return announced[framework].load()()
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[{framework}]'") from error


@overload
def capture(
    source: Any,
    *inputs: Any,
    layers: LayerSelection = ...,
    keep: Literal["auto", "maps", "factors"] = ...,
    max_bytes: int = ...,
    **kwargs: Any,
) -> AttentionStore: ...


@overload
def capture(
    source: Any, *inputs: Any, layers: LayerSelection = ..., keep: Sequence[Reducer], max_bytes: int = ..., **kwargs: Any
) -> Reductions: ...


def capture(
    source: Any,
    *inputs: Any,
    layers: LayerSelection = "all",
    keep: Keep = "auto",
    max_bytes: int = MAX_BYTES,
    **kwargs: Any,
) -> AttentionStore | Reductions:
    """The attention of one forward pass, layer by layer, with the layout of the tokens.

    Works on models as they come (fused attention included), under `no_grad`, and leaves them exactly as they were, also
    when the forward raises. Only the chosen layers are computed and held.

    Args:
        source: a model that an adapter recognises (of timm, transformers, nnsight or plain torch; transformers' bound
            `model.generate` too), or any callable that returns an `AttentionStore`. Of a model that `torch.compile` made
            another of, the uncompiled one is run, and the log says so.
        inputs, kwargs: what the model is called with; and options of the adapter, where a model has more than one sequence:
            `kind="encoder" | "decoder" | "cross" | "pool"`, `tower="text" | "vision" | …`, and `tokenizer=…` for labels.
        layers: which layers to keep, as in `AttentionStore.select`; the store has them in the order in which they run.
        keep: "maps" (batch, head, query, key) of each layer; "factors", its queries and keys, from which everything is
            computed in memory linear in the number of tokens; a list of reducers, which see each layer as it passes and
            keep only their small results; or "auto", maps while they fit into `max_bytes` and factors from there on. The
            choice is in the store's metadata, and logged.
        max_bytes: for "auto"; 2 GiB.

    Returns:
        An `AttentionStore`; `Reductions` for reducers.

    Raises:
        AttentionError: no adapter recognises the model, or its family is no token chain or has not been tried; a layer that
            does not exist; inputs that the model cannot take; dropout that is active; factors of a model that has none,
            maps that do not fit; a module compiled in place. Errors of the model's own forward pass through unchanged.

    >>> capture(lambda maps: AttentionStore.from_maps([maps]), torch.eye(2)[None, None]).names
    ['layer.0']
    """
    keeping, source = Keeping(keep, max_bytes), uncompiled(source)
    adapter = adapter_of(source)
    if adapter is not None:
        with torch.no_grad():
            return adapter.capture(source, inputs, layers, keeping, **kwargs)
    if not isinstance(source, nn.Module) and callable(source):
        store = source(*inputs, **kwargs)
        if not isinstance(store, AttentionStore):
            raise AttentionError(
                f"the callable returned {type(store).__name__}; it must return an AttentionStore (AttentionStore.from_maps"
                " builds one of tensors)."
            )
        wanted = {layer.name for layer in store.select(layers)}
        several = [layer for layer in store if layer.name in wanted]
        chosen = store if layers == "all" else AttentionStore(several, store.tokens, store.metadata, store.queries)
        return chosen if keep == "auto" else kept(chosen, keeping)
    if not isinstance(source, nn.Module):
        raise AttentionError(f"the source is a {type(source).__name__}; pass a model or a callable that returns a store.")
    known = dict(adapters())
    name = f"{type(source).__module__}.{type(source).__name__}"
    ready = "; ".join(f"{framework}: {adapter.supported}" for framework, adapter in sorted(known.items()))
    absent = sorted({point.name for point in entry_points(group=GROUP)} - set(known))
    raise AttentionError(
        f"no adapter recognises {name}. Recognised are {ready or 'no models yet'}"
        + (f" (not imported: {', '.join(absent)})" if absent else "")
        + ". For any other model pass a callable that returns AttentionStore.from_maps(your_maps, tokens=…)."
    )


def uncompiled(source: Any) -> Any:
    """The model that `torch.compile` made another of, or the source itself.

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
            f"{inside[0]} is compiled in place, and compiled code cannot be watched. Capture before module.compile(), or"
            " compile another of it: compiled = torch.compile(model)."
        )
    return source


def _compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules
