"""The attention of generated text: the steps of `model.generate` put together into one map per layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError, Factors

Step = Tensor | Factors


@final
class Steps:
    """Takes the attention of each step of a layer.

    The first step attends from the prompt to itself, each later one from the newest token to all before it and to itself (or,
    in cross-attention, every one to the encoder).
    """

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}

    def take(self, name: str, attention: Step, sink: bool = False) -> None:
        if name not in self._layers:
            self._layers[name] = _Layer(attention.shape[1], sink, _by_key(attention))
        self._layers[name].take(attention)

    def whole(self, name: str, square: bool) -> tuple[Step, bool]:
        """Returns the attention of one layer over the whole text, and whether its softmax had a sink.

        Args:
            name: of the layer.
            square: whether the queries are the keys; else keys are the same at every step (cross-attention).

        Raises:
            AttentionError: steps that do not follow on one another.
        """
        layer = self._layers[name]
        queries, keys = (list(lengths) for lengths in zip(*layer.lengths, strict=True))
        expected = [sum(queries[: k + 1]) if square else keys[0] for k in range(len(keys))]
        if keys != expected:
            raise AttentionError(
                f"layer {name!r} attends to {keys} keys in the steps of this generation, not to {expected}: a sliding or"
                " static cache, or drafted tokens.",
                "Generate with the default cache, or capture one forward of the finished text: capture(model,"
                " model.generate(…)).",
            )
        return layer.joined(square), layer.sink


@dataclass
class _Layer:
    """The steps of a layer so far: queries and the newest keys, which hold all earlier ones; or rows of its map.

    Attributes:
        heads: how many query heads.
        sink: whether the softmax has one.
        by_key: whether the factors can be put together: what is masked is known by the key alone.
        lengths: queries and keys of each step.
        parts: the queries of each step, or its rows of the map.
        last: the newest step.
    """

    heads: int
    sink: bool
    by_key: bool
    lengths: list[tuple[int, int]] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)
    last: Step | None = None

    def take(self, step: Step) -> None:
        step = _unpacked(step, self.heads)
        self.lengths.append((step.shape[-2], step.shape[-1]))
        if self.by_key and isinstance(step, Factors):
            if not _by_key(step):
                raise AttentionError(
                    "the attention mask changes its kind from step to step.", "Capture one forward of the finished text."
                )
            self.parts.append(step.query.clone())
            self.last = step
        else:
            self.parts.append(step.maps() if isinstance(step, Factors) else step)

    def joined(self, square: bool) -> Step:
        if not self.by_key or not isinstance(self.last, Factors):
            return torch.cat([F.pad(rows, (0, self.lengths[-1][1] - rows.shape[-1])) for rows in self.parts], -2)
        causal = self.last.causal or (square and len(self.parts) > 1)
        return Factors(torch.cat(self.parts, 2), self.last.key, self.last.scale, self.last.mask, causal)


def ended(text: Tensor, start: int, config: Any) -> Tensor:
    """Returns (batch, token): 1 up to the end of each example, 0 after it. No example ends before `start`."""
    stops = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id, device=text.device).flatten()
    stopped = torch.isin(text, stops.to(text.dtype))
    stopped[:, :start] = False
    return (stopped.cumsum(1) - stopped.long() == 0).long()


def _by_key(step: Step) -> bool:
    """Returns whether each query of a step sees all keys before it, except keys that no query sees (padding)."""
    if not isinstance(step, Factors):
        return False
    mask = step.mask_of_four
    return (step.causal or step.shape[-2] == 1) and (mask is None or (mask.dtype == torch.bool and mask.shape[2] == 1))


def _unpacked(step: Step, heads: int) -> Step:
    """Grouped queries of one token, which transformers packs as (batch, key head, query head of its group, dim), by head."""
    if step.shape[1] == heads:
        return step
    if isinstance(step, Factors):
        return Factors(step.query.flatten(1, 2)[:, :, None], step.key, step.scale, step.mask)
    return step.flatten(1, 2)[:, :, None]
