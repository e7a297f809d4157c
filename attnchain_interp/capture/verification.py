"""The strong check of a capture: the model uses the captured maps, and every layer of them counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_interp.capture.adapter import CaptureRequest, Edit
from attnchain_interp.capture.reading import Reading, separated, without_empty_caches
from attnchain_interp.capture.recognition import required_adapter
from attnchain_interp.capture.source import module_of, uncompiled
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import AttentionStore, LayerSelection

AGREES: Final = 1e-4  # of the output's greatest entry: rounding of float32 over a model's layers


@final
@dataclass(frozen=True)
class LayerProof:
    """The effect of a layer's map on the model's output.

    Attributes:
        name: the name of the layer.
        moved: how far the output moves when the map is overwritten by a random one over the same keys, relative to the
            output's greatest entry. Zero for a decoy: a map that the output does not depend on.
    """

    name: str
    moved: float


@final
@dataclass(frozen=True, eq=False)
class Proof:
    """The result of the strong check.

    Attributes:
        store: the captured maps.
        deviation: how far the output moves when the model computes with the captured maps in place of its own attention,
            relative to its greatest entry; rounding where they are the same.
        layers: the effect of overwriting each layer.
    """

    store: AttentionStore
    deviation: float
    layers: list[LayerProof]

    def __repr__(self) -> str:
        moved = min((layer.moved for layer in self.layers), default=0.0)
        return (
            f"Proof({'holds' if self.holds else 'does not hold'}: deviation {self.deviation:.1e}; each of {len(self.layers)}"
            f" layers overwritten moves the output by {moved:.1e} or more)"
        )

    @property
    def holds(self) -> bool:
        """Returns whether the captured maps give the same output and overwriting any one of them gives another."""
        return self.deviation <= AGREES and all(layer.moved > 2 * self.deviation for layer in self.layers)


@in_turn
def prove(model: Any, *inputs: Any, layers: LayerSelection = "all", reading: Reading | None = None, **kwargs: Any) -> Proof:
    """Proves that the captured maps are those that the model computes with, layer by layer.

    The model runs once as it is, once with its own captured maps put back in, and once per layer with that layer's map
    overwritten by a random one that leaves the same entries at zero. Shapes and row sums prove little: a hook can sit on a
    copy that nothing reads.

    Args:
        model: a module that an adapter recognises, or a bound method of one.
        inputs, kwargs: the arguments of the model.
        layers: the layers to prove. See `AttentionStore.select`.
        reading: says which attention is meant. See `Reading`.

    Raises:
        AttentionError: as `capture`; a source that is not a module; an output without floating-point tensors, or one of 16
            bits, whose rounding is as great as the effect of a layer.
    """
    model = uncompiled(model)
    adapter = required_adapter(model, "prove needs", "Pass the module itself.")
    if module_of(model) is None:
        raise AttentionError(
            f"prove needs a module; got {type(model).__name__}.",
            "Pass the module itself, which an nnsight model holds as model._module.",
        )
    reading, kwargs = separated(model, reading, kwargs)
    kwargs = without_empty_caches(kwargs)

    def captured(edit: Edit | None, among: LayerSelection) -> tuple[AttentionStore, Tensor]:
        outputs: list[Any] = []
        request = CaptureRequest(StoreCollector("maps"), among, reading, edit, told=outputs.append)
        with torch.no_grad():
            return adapter.capture(model, inputs, kwargs, request), _numbers(outputs[-1])

    store, own = captured(None, layers)
    scale = float(own.abs().max())

    def moved(edit: Edit, among: LayerSelection) -> float:
        return float((captured(edit, among)[1] - own).abs().max()) / scale

    deviation = moved(lambda _, maps: maps, store.names)
    return Proof(store, deviation, [LayerProof(name, moved(_overwritten, name)) for name in store.names])


def _overwritten(_: str, maps: Tensor) -> Tensor:
    """Random probabilities over the keys that each row attends to; rows sum to what they did."""
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(maps.shape, generator=generator, dtype=torch.float32, device="cpu").to(maps) * (maps > 0)
    return random * (maps.sum(-1, keepdim=True) / random.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny))


def _numbers(output: Any) -> Tensor:
    """Every floating-point number of an output, in one row."""
    numbers = [tensor for tensor in _tensors(output) if tensor.is_floating_point()]
    for tensor in numbers:
        if tensor.itemsize < 4:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise AttentionError(
                f"the output is {kind}, whose rounding hides whether the maps are the model's.",
                "Pass model.float(), and inputs of float32.",
            )
    found = [tensor.flatten().double().cpu() for tensor in numbers]
    if not found:
        raise AttentionError(f"the output ({type(output).__name__}) holds no floating-point tensor to compare.")
    return torch.cat(found)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (tensor for part in output.values() for tensor in _tensors(part))
    elif isinstance(output, list | tuple):
        yield from (tensor for part in output for tensor in _tensors(part))
