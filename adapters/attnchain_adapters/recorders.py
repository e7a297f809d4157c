"""The recorder that a collector needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from torch import nn

from attnchain_adapters.recording.attention_recorder import AttentionRecorder, Taker
from attnchain_interp.capture import BlockCollector, Edit


def recorder(
    model: nn.Module,
    layers: Mapping[str, Sequence[str]],
    wanted: Set[str],
    taker: Taker,
    edit: Edit | None = None,
    beside: Iterable[str] = (),
    batch: int | None = None,
) -> AttentionRecorder:
    """Returns a recorder of attention, or a recorder of whole attention blocks for a collector that takes them.

    The arguments are those of `AttentionRecorder`.
    """
    if isinstance(taker, BlockCollector):
        from attnchain_adapters.contributions.recorder import ContributionRecorder  # only contributions load it

        return ContributionRecorder(model, layers, wanted, taker, beside=beside, batch=batch)
    return AttentionRecorder(model, layers, wanted, taker, edit, beside, batch)
