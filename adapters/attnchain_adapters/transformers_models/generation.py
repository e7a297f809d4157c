"""The attention of generated text: the steps of `model.generate` put together into one map per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError, Factors
from attnchain_interp.keeping import Edit

Step = Tensor | Factors


@final
class Steps:
    """Takes the attention of each step of a layer, as a `Keeping` takes that of a forward.

    The first step attends from the prompt to itself, each later one from the newest token to all before it and to itself.
    """

    def __init__(self) -> None:
        self._steps: dict[str, list[Step]] = {}
        self._sinks: dict[str, bool] = {}
        self.edit: Edit | None = None

    def take(self, name: str, attention: Step, sink: bool = False) -> None:
        self._steps.setdefault(name, []).append(attention)
        self._sinks[name] = sink

    def whole(self, name: str, square: bool) -> tuple[Step, bool]:
        """The attention of one layer over the whole text, and whether its softmax had a sink.

        Args:
            name: of the layer.
            square: whether the queries are the keys; else keys are the same at every step (cross-attention).

        Raises:
            AttentionError: steps that do not follow on one another.
        """
        heads = self._steps[name][0].shape[1]
        steps = [_unpacked(step, heads) for step in self._steps[name]]
        lengths = [step.shape[-2] for step in steps]
        keys = [sum(lengths[: k + 1]) if square else steps[0].shape[-1] for k in range(len(steps))]
        came = [step.shape[-1] for step in steps]
        if came != keys or len({step.shape[0] for step in steps}) > 1:
            raise AttentionError(
                f"layer {name!r} attends to {came} keys in the steps of this generation, not to {keys}: a sliding or static"
                " cache, or drafted tokens. Generate with the default cache, or capture one forward of the finished text:"
                " capture(model, model.generate(…))."
            )
        joined = _joined(steps, square)
        if joined is None:
            maps = [step.maps() if isinstance(step, Factors) else step for step in steps]
            joined = torch.cat([F.pad(part, (0, keys[-1] - part.shape[-1])) for part in maps], -2)
        return joined, self._sinks[name]


def ended(text: Tensor, start: int, config: Any) -> Tensor:
    """(batch, token): 1 up to where each example ended, 0 for what fills it up; nothing ends before `start`."""
    stops = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id, device=text.device).flatten()
    stopped = torch.isin(text, stops.to(text.dtype))
    stopped[:, :start] = False
    return (stopped.cumsum(1) - stopped.long() == 0).long()


def _unpacked(step: Step, heads: int) -> Step:
    """Grouped queries of one token, which transformers packs as (batch, key head, query head of its group, dim), by head."""
    if step.shape[1] == heads:
        return step
    if isinstance(step, Factors):
        return Factors(step.query.flatten(1, 2)[:, :, None], step.key, step.scale, step.mask)
    return step.flatten(1, 2)[:, :, None]


def _joined(steps: Sequence[Step], square: bool) -> Factors | None:
    """The factors of all steps: the keys and the mask of keys of the last are those of all. None where that is not so."""
    factored = [step for step in steps if isinstance(step, Factors)]
    by_key = all(step.mask is None or (step.mask.dtype == torch.bool and step.mask_of_four.shape[2] == 1) for step in factored)  # type: ignore[union-attr]
    if len(factored) < len(steps) or not by_key or (square and len(steps) > 1 and not factored[0].causal):
        return None
    if len(factored) == 1:
        return factored[0]
    last = factored[-1]
    return Factors(torch.cat([step.query for step in factored], 2), last.key, last.scale, last.mask, causal=square)
