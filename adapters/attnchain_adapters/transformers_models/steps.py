"""The attention of the steps of `model.generate`, put together into one map per layer."""

from __future__ import annotations

from typing import cast, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import MakeNorms, Shown

Step = Tensor | Factors


@final
class Steps:
    """Takes the attention of each step of a layer, and puts the rows at their places.

    In self-attention the first step attends from the prompt to itself, and each later one from the newest tokens to those
    before them and to themselves. A cache may show more keys than there are tokens, all after the tokens (a static cache), or
    the newest keys alone (a sliding window). In cross-attention every step attends to all keys. A layer that does not write
    the text (of an encoder) has one step, which may be repeated.

    Args:
        heads: how many query heads a layer has.
        square: whether the queries are the keys.
        writes: whether the layers are of the part that writes the text.

    Attributes:
        slides: whether a layer of the cache may keep the newest keys alone.
    """

    def __init__(self, heads: int, square: bool, writes: bool) -> None:
        self._heads, self._square, self._writes = heads, square, writes
        self._layers: dict[str, _Layer] = {}
        self.slides = False

    def restart(self) -> None:
        """Forgets all steps: the text is read again from its start."""
        self._layers.clear()

    def take(self, name: str, shown: Shown) -> None:
        """Takes a step of a layer.

        Raises:
            AttentionError: the cache has dropped keys, and nothing says which; a layer attends to a part of the cache that is
                empty; or a layer of an encoder runs again, on other inputs.
        """
        if not self._writes and name in self._layers:
            return self._layers[name].check_repeated(name, shown.attention)
        layer = self._layers.setdefault(name, _Layer(shown.sink, self._heads))
        step = _unpacked(shown.attention, self._heads) if self._writes else shown.attention
        queries, keys = step.shape[-2:]
        layer.read += queries
        if self._square and keys < layer.read and not self.slides:
            raise AttentionError(
                f"layer {name!r} attends to {keys} of the {layer.read} tokens that were read. The cache has dropped the"
                " others, and nothing says which.",
                "Generate with a cache of transformers, or capture one forward of the finished text.",
            )
        if self._square and keys > layer.read and _newest(step)[..., layer.read :].any():
            raise AttentionError(
                f"layer {name!r} attends to places of its cache that hold no token yet: the model has no mask for this cache.",
                "Generate with the default cache.",
            )
        layer.take(step, self._square)
        if self.slides and shown.value_norms is not None:
            seen = shown.value_norms()  # now: the next step may overwrite the values
            layer.note(lambda: seen, keys, self._square)
        else:
            layer.note(shown.value_norms, keys, self._square)
        return None

    @property
    def batch(self) -> int:
        """How many examples the layers have seen."""
        return next(iter(self._layers.values())).batch

    def whole(self, name: str) -> Shown:
        """Returns the attention of one layer over the whole text."""
        layer = self._layers[name]
        return Shown(layer.joined(self._square), layer.sink, layer.value_norms)


class _Layer:
    """The steps of a layer so far: queries and the newest keys, which hold all earlier ones; or rows of its map."""

    def __init__(self, sink: bool, heads: int) -> None:
        self.sink, self.read, self.value_norms = sink, 0, cast("MakeNorms | None", None)
        self._heads = heads
        self._parts: list[Tensor] = []  # the queries of each step, or its rows of the map
        self._last: Factors | None = None  # the newest step, where parts are queries

    def take(self, step: Step, square: bool) -> None:
        keys = step.shape[-1]
        whole = isinstance(step, Factors) and _by_key(step) and (keys == self.read or not square)
        if (
            isinstance(step, Factors)
            and whole
            and (not self._parts or (self._last is not None and _goes_on(self._last, step)))
        ):
            self._parts.append(step.query.clone())
            self._last = step
            return
        if self._last is not None:
            earlier = self.joined(square)
            self._parts, self._last = [earlier.maps() if isinstance(earlier, Factors) else earlier], None
        rows = step.maps() if isinstance(step, Factors) else step
        if square:
            rows = F.pad(rows, (self.read - keys, 0)) if keys < self.read else rows[..., : self.read]
        self._parts.append(rows)

    def note(self, made: MakeNorms | None, keys: int, square: bool) -> None:
        """Notes the value norms of the keys of a step: those of all tokens so far, or of the newest in a sliding window."""
        before, self.value_norms = self.value_norms, made
        if made is None or not square:
            return
        slid = self.read - keys
        earlier = before()[..., :slid] if before is not None and slid > 0 else None

        def norms(made: MakeNorms = made, read: int = self.read) -> Tensor:
            each = made()
            each = each.repeat_interleave(self._heads // each.shape[1], 1)
            return (each if earlier is None else torch.cat([earlier, each], -1))[..., :read]

        self.value_norms = norms

    @property
    def batch(self) -> int:
        return len(self._parts[0])

    def check_repeated(self, name: str, step: Step) -> None:
        first, again = (each.maps() if isinstance(each, Factors) else each for each in (self.joined(True), step))
        if not torch.equal(first, again):
            raise AttentionError(
                f"layer {name!r} computed attention several times in this generation, for other inputs each time.",
                "Capture the encoder by itself, once for each input: capture(model.get_encoder(), …).",
            )

    def joined(self, square: bool) -> Step:
        if self._last is None:
            most = self._parts[-1].shape[-1]
            return torch.cat([F.pad(rows, (0, most - rows.shape[-1])) for rows in self._parts], -2)
        causal = self._last.causal or (square and len(self._parts) > 1)
        return Factors(torch.cat(self._parts, 2), self._last.key, scale=self._last.scale, mask=self._last.mask, causal=causal)


def _newest(step: Step) -> Tensor:
    """Returns the last row of the map of a step."""
    return step.maps(slice(step.shape[-2] - 1, None)) if isinstance(step, Factors) else step[:, :, -1:]


def _goes_on(before: Factors, step: Factors) -> bool:
    """Returns whether the keys and the mask of a step begin with those of the step before."""
    keys = before.key.shape[2]
    masks = [each.mask_of_four for each in (before, step)]
    same = masks[0] is masks[1] is None or (
        masks[0] is not None and masks[1] is not None and torch.equal(masks[0], masks[1][..., :keys])
    )
    return same and torch.equal(before.key, step.key[:, :, :keys])


def _by_key(step: Factors) -> bool:
    """Returns whether each query of a step sees all keys before it, except keys that no query sees (padding)."""
    mask = step.mask_of_four
    return (step.causal or step.shape[-2] == 1) and (mask is None or (mask.dtype == torch.bool and mask.shape[2] == 1))


def _unpacked(step: Step, heads: int) -> Step:
    """Grouped queries of one token, which transformers packs as (batch, key head, query head of its group, dim), by head."""
    if step.shape[1] == heads or step.shape[1] * step.shape[2] != heads:
        return step
    if isinstance(step, Factors):
        mask = step.mask_of_four
        if mask is not None and mask.shape[1] * mask.shape[2] == heads:
            mask = mask.flatten(1, 2)[:, :, None]
        return Factors(step.query.flatten(1, 2)[:, :, None], step.key, scale=step.scale, mask=mask)
    return step.flatten(1, 2)[:, :, None]
