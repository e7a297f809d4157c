"""Positions of tokens that count the padding before them."""

from __future__ import annotations

import warnings
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_interp import TokenLayout
from attnchain_interp.reprs import counted


@final
class PaddedPositions(TorchFunctionMode):
    """While open, warns once if the model looks up an absolute position of a token that counts the padding before the token.

    Such a model (GPT-2, BERT) reads a text behind padding otherwise than the text alone, and nothing fails. Positions that are
    rotations or differences count padding too, and change nothing. They are not looked up.

    Args:
        name: of the model, for the message.
        tokens: the layout of its tokens.
        ids: the token numbers, which are looked up too; None for none.
        takes: whether the forward of the model takes `position_ids`.

    Attributes:
        waits: whether there is padding before a text, and no such position has come.
    """

    def __init__(self, name: str, tokens: TokenLayout, ids: Any, takes: bool) -> None:
        super().__init__()
        mask = tokens.mask.cpu()
        self._name, self._ids, self._takes, self._width = name, ids, takes, mask.shape[1]
        self._before = (mask.cumsum(1) == 0).sum(1) % mask.shape[1]  # (batch,), the padding before a text; of no text none
        self.waits = bool(self._before.any())

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.waits and func is F.embedding and self._counts(args[0] if args else kwargs["input"]):
            self.waits = False
            self._warn()
        return func(*args, **kwargs)

    def _counts(self, looked_up: Any) -> bool:
        if not isinstance(looked_up, Tensor) or not looked_up.shape or looked_up.shape[-1] != self._width:
            return False
        if isinstance(self._ids, Tensor) and torch.equal(looked_up, self._ids):
            return False
        rows = looked_up.detach().reshape(-1, self._width).cpu()
        if len(rows) == len(self._before):
            rows = rows[self._before > 0]
        return self._width > 1 and bool((rows.diff(dim=1) == 1).all())

    def _warn(self) -> None:
        example = int(self._before.gt(0).nonzero()[0])
        position_ids = "Pass position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0), or pad" if self._takes else "Pad"
        warnings.warn(
            f"{self._name} counts padding in the positions of tokens. Example {example} has"
            f" {counted(int(self._before[example]), 'token')} of padding before its text, so its text has other attention than"
            f" alone. {position_ids} on the right.",
            stacklevel=2,
        )
