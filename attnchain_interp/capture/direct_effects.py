"""The direct effects of tokens on a score: what attention in each layer writes from a token along the score's direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_interp.capture.adapter import CaptureRequest
from attnchain_interp.capture.attention_block import AttentionBlock
from attnchain_interp.capture.collector import Block, Expected, Shown, told
from attnchain_interp.capture.reading import Reading, separated
from attnchain_interp.capture.recognition import required_adapter
from attnchain_interp.capture.source import uncompiled
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import full_precision
from attnchain_interp.store import LayerSelection

_INSTEAD: Final = "Use TokenRank, which needs no direct effects, or GradientTokenRank."


def direct_effects(block: AttentionBlock, direction: Tensor) -> Tensor:
    """Returns D_j = Σ_i Σ_h max(0, ⟨d_i, W^h A_ij^h v_j^h⟩), which the heads write from token j along d: (batch, token).

    Args:
        block: an attention block without a normalisation after the addition.
        direction: d (batch, token, width), zero at tokens that are not read.

    Raises:
        AttentionError: a block with a normalisation after the addition, so that it does not add to the stream alone.
    """
    if block.norm is not None:
        raise AttentionError(
            f"{block.name} is normalised after the addition, so that no block adds to the output of the last one directly.",
            _INSTEAD,
        )
    wide = block.widened()
    read = direction.to(wide.values.device).abs().amax((0, 2)).nonzero()[:, 0]
    found = wide.values.new_zeros(wide.values.shape[0], wide.values.shape[2])
    if len(read):
        pulled = wide.pulled_back(direction.to(wide.values))
        for rows, maps in wide.rows(int(read[0]), int(read[-1]) + 1):
            written = (pulled[:, :, rows] @ wide.values[:, :, : maps.shape[-1]].mT) * maps
            found[:, : maps.shape[-1]] += written.relu_().sum((1, 2))
    return found


@final
class DirectEffectCollector:
    """Collects the `direct_effects` of each layer: (batch, layer, token).

    Args:
        direction: d (batch, token, width).
    """

    def __init__(self, direction: Tensor) -> None:
        self._direction = direction
        self._expected: Expected | None = None
        self._effects: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        return f"DirectEffectCollector(direction={tuple(self._direction.shape)})"

    @property
    def wants_blocks(self) -> bool:
        """Returns true."""
        return True

    def expect(self, expected: Expected) -> None:
        """See `Collector.expect`."""
        self._expected = expected

    def take(self, name: str, shown: Shown) -> None:
        """Refuses attention without its values. See `Collector.take`."""
        raise AttentionError(f"layer {name!r} showed its attention alone, and effects are of its values.", _INSTEAD)

    @full_precision()
    def take_block(self, name: str, block: Block, shown: Shown) -> None:
        """Takes the effects of one layer.

        Raises:
            AttentionError: `block`; or as `Expected.check_layer` and `direct_effects`.
        """
        told(self._expected).check_layer(name, shown.attention, self._effects)
        if isinstance(block, AttentionError):
            raise block
        self._effects[name] = direct_effects(block, self._direction)

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Tensor:
        """Returns the effects (batch, layer, token). See `Collector.result`."""
        return torch.stack([self._effects[name].to(self._effects[names[0]].device) for name in names], 1)


@in_turn
def capture_direct_effects(
    model: Any,
    *inputs: Any,
    direction: Tensor,
    layers: LayerSelection = "all",
    reading: Reading | None = None,
    **kwargs: Any,
) -> Tensor:
    """Returns the `direct_effects` (batch, layer, token) of one forward. No map is kept.

    Args:
        model: a model that an adapter recognises. It is left as it was.
        inputs, kwargs: the arguments of the model.
        direction: d (batch, token, width), as `attnchain_interp.gradients.logit_direction` has it.
        layers: the layers, whose order the result has. See `AttentionStore.select`.
        reading: says which attention is meant. See `Reading`.

    Raises:
        AttentionError: as `capture` of contributions, and as `direct_effects`.
    """
    model = uncompiled(model)
    adapter = required_adapter(model, "direct effects need", _INSTEAD)
    reading, kwargs = separated(model, reading, kwargs)
    with torch.no_grad():
        return adapter.capture(model, inputs, kwargs, CaptureRequest(DirectEffectCollector(direction), layers, reading))
