"""From a model and its inputs to an `AttentionStore`, through whichever adapter knows the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, Literal, Protocol, overload

import torch
from torch import Tensor, nn

from attnchain_interp.errors import AttentionError
from attnchain_interp.keeping import MAX_BYTES, Keep, Keeping, Reductions, kept
from attnchain_interp.layers import LayerSelection
from attnchain_interp.reducers import Reducer
from attnchain_interp.store import AttentionStore

GROUP: Final = "attnchain_interp.adapters"


@dataclass(frozen=True)
class Loaded:
    """A model by name, with what turns a PIL image into its input (1, channel, height, width)."""

    model: nn.Module
    preprocess: Callable[[Any], Tensor]


class Adapter(Protocol):
    """How attention gets out of one framework's models.

    An adapter is announced by an entry point in the group `attnchain_interp.adapters`, named as the framework is
    imported (`timm`, `transformers`, …). It is loaded only when the user has imported that framework: who holds a model
    of it has.
    """

    supported: str
    """The model families it knows, for messages."""

    def recognises(self, model: nn.Module) -> bool:
        """Whether `capture` can read this model."""
        ...

    def capture(
        self, model: nn.Module, inputs: tuple[Any, ...], layers: LayerSelection, keeping: Keeping, **kwargs: Any
    ) -> AttentionStore | Reductions:
        """What `keeping` keeps of one forward of `model(*inputs, **kwargs)`; the model is left as it was."""
        ...

    def load(self, name: str) -> Loaded:
        """The pretrained model of this name."""
        ...


def adapters() -> Iterator[tuple[str, Adapter]]:
    """Framework name and adapter, for every announced adapter whose framework has been imported."""
    for point in entry_points(group=GROUP):
        if point.name in sys.modules:
            yield point.name, point.load()()


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
        source: a model that an adapter recognises, or any callable that returns an `AttentionStore`.
        inputs, kwargs: what the model is called with.
        layers: which layers to keep, as in `AttentionStore.select`.
        keep: "maps" (batch, head, query, key) of each layer; "factors", its queries and keys, from which everything is
            computed in memory linear in the number of tokens; a list of reducers, which see each layer as it passes and
            keep only their small results; or "auto", maps while they fit into `max_bytes` and factors from there on. The
            choice is in the store's metadata, and logged.
        max_bytes: for "auto"; 2 GiB.

    Returns:
        An `AttentionStore`; `Reductions` for reducers.

    Raises:
        AttentionError: no adapter recognises the model; a layer that does not exist; inputs that the model cannot take;
            dropout that is active; factors of a model that has none, maps that do not fit. Errors of the model's own
            forward pass through unchanged.

    >>> capture(lambda maps: AttentionStore.from_maps([maps]), torch.eye(2)[None, None]).names
    ['layer.0']
    """
    keeping = Keeping(keep, max_bytes)
    if not isinstance(source, nn.Module) and callable(source):
        store = source(*inputs, **kwargs)
        if not isinstance(store, AttentionStore):
            raise AttentionError(
                f"the callable returned {type(store).__name__}; it must return an AttentionStore (AttentionStore.from_maps"
                " builds one of tensors)."
            )
        chosen = store if layers == "all" else AttentionStore(store.select(layers), store.tokens, store.metadata)
        return chosen if keep == "auto" else kept(chosen, keeping)
    if not isinstance(source, nn.Module):
        raise AttentionError(f"the source is a {type(source).__name__}; pass a model or a callable that returns a store.")
    known = dict(adapters())
    for adapter in known.values():
        if adapter.recognises(source):
            with torch.no_grad():
                return adapter.capture(source, inputs, layers, keeping, **kwargs)
    name = f"{type(source).__module__}.{type(source).__name__}"
    ready = "; ".join(f"{framework}: {adapter.supported}" for framework, adapter in sorted(known.items()))
    absent = sorted({point.name for point in entry_points(group=GROUP)} - set(known))
    raise AttentionError(
        f"no adapter recognises {name}. Recognised are {ready or 'no models yet'}"
        + (f" (not imported: {', '.join(absent)})" if absent else "")
        + ". For any other model pass a callable that returns AttentionStore.from_maps(your_maps, tokens=…)."
    )
