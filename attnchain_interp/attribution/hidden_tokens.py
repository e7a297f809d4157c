"""Texts whose removed tokens are hidden from attention: nothing is put in their place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.capture.source import forward_of
from attnchain_interp.errors import AttentionError


@final
class HiddenTokens:
    """Runs a model on texts while no token attends to the hidden ones. The others keep their places and positions.

    Positions are passed as `position_ids` to a model that would count the tokens that its mask shows. Eager attention without
    any key reads hidden tokens, so a text of which nothing is left is run by fused attention, which reads none.

    Args:
        model: its forward takes an attention_mask.
        run: rows (row, token) or (row, token, width), and further arguments of the model → its output for each row (row, …).
        text: (1, token) or (1, token, width): the text on which the model is checked.
        position: the token that is read. None where it is not known: then nothing checks that the output follows the mask.
        mask: (1, token), the model's own mask of the text; all tokens when None.
        instead: other removals, for the messages.

    Raises:
        AttentionError: a model without an attention_mask, one that counts the tokens that the mask shows, and one whose output
            reads hidden tokens; on a call, one that reads them where no other is left.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Any,
        run: Callable[..., Tensor],
        text: Tensor,
        position: int | None = -1,
        mask: Tensor | None = None,
        instead: str = "another removal",
    ) -> None:
        self._name, self._instead = type(model).__name__, instead
        parameters = inspect.signature(forward_of(model) or model).parameters
        if "attention_mask" not in parameters:
            raise self._refusal("takes no attention_mask")
        config: Any = getattr(model, "config", None)
        kind = getattr(config, "model_type", None)
        if kind == "bloom" or (kind == "falcon" and config.alibi):
            raise self._refusal("counts the tokens that its mask shows, so hiding one moves the others")
        self._model, self._run = model, run
        tokens = text.shape[1]
        self._mask = torch.ones(1, tokens, dtype=torch.long, device=text.device) if mask is None else mask.long()
        self._end = tokens if position is None else position % tokens + 1
        self._positions: dict[str, Tensor] = {}
        self._checked_without = position is None
        shown = self._mask[0].nonzero()[:, 0]
        kept = torch.zeros_like(self._mask, dtype=torch.bool)
        kept[:, [int(shown[0]), int(shown[-1]), self._end - 1]] = True
        self._text = text
        self._other = torch.where(kept.view(1, tokens, *[1] * (text.ndim - 2)), text, text[:, :1])
        if position is not None and not _close(self(text, kept), self(self._other, kept)):
            raise self._refusal("reads tokens past the attention mask, so masking does not remove them")
        if "position_ids" in parameters:
            self._keep_positions(int(shown[0]))

    def __repr__(self) -> str:
        return f"HiddenTokens({self._name}, {self._mask.shape[1]} tokens)"

    @torch.no_grad()
    def __call__(self, rows: Tensor, kept: Tensor) -> Tensor:
        """Returns the output of `run` (row, …) for rows of tokens. Those that are not `kept` (row, token) are hidden."""
        mask = kept.long() * self._mask
        without = ~mask[:, : self._end].any(1)
        if not bool(without.any()):
            return self._masked(rows, mask)
        self._check_without()
        if not _is_eager(self._model):
            return self._masked(rows, mask)
        groups = [group for group in ((~without).nonzero()[:, 0], without.nonzero()[:, 0]) if len(group)]
        found = [self._masked(rows[group], mask[group]) for group in groups[:-1]]
        with _fused(self._model):
            found.append(self._masked(rows[groups[-1]], mask[groups[-1]]))
        return torch.cat(found)[torch.cat(groups).argsort()]

    def _masked(self, rows: Tensor, mask: Tensor) -> Tensor:
        positions = {name: value.expand(len(rows), -1) for name, value in self._positions.items()}
        return self._run(rows, attention_mask=mask, **positions)

    def _keep_positions(self, first: int) -> None:
        """Passes the positions of the whole text from now on, if the model takes others where the `first` token is hidden."""
        own = {"position_ids": (self._mask.cumsum(1) - 1).clamp_min(0)}

        def counted(mask: Tensor) -> bool:
            return _close(*(self._run(self._text, attention_mask=mask, **named) for named in ({}, own)))

        later = self._mask.clone()
        later[:, first] = 0
        with _fused(self._model):  # of eager attention in float64 a query without any key makes NaN of all
            if not counted(later) and counted(self._mask):
                self._positions = own

    def _check_without(self) -> None:
        """Refuses a model whose output depends on hidden tokens where all are hidden.

        The probe keeps the first and last token, and the one that is read.
        """
        if self._checked_without:
            return
        with _fused(self._model):
            both = [self._masked(text, torch.zeros_like(self._mask)) for text in (self._text, self._other)]
        if not _close(*both):
            raise self._refusal("reads hidden tokens where no other is left")
        self._checked_without = True

    def _refusal(self, cause: str) -> AttentionError:
        return AttentionError(f"{self._name} {cause}.", f"Use {self._instead}.")


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max().clamp_min(1e-6)))


def _implementations(model: Any) -> list[tuple[Any, Any]]:
    """Returns the configurations of a model of transformers and their attention, each before those inside it."""
    modules = model.modules() if isinstance(model, torch.nn.Module) else []
    found: dict[int, Any] = {}

    def add(config: Any) -> None:
        found.pop(id(config), None)
        found[id(config)] = config
        for inside in (getattr(config, name, None) for name in getattr(config, "sub_configs", ())):
            if inside is not None:
                add(inside)

    for config in {id(module.config): module.config for module in modules if hasattr(module, "config")}.values():
        add(config)
    return [(each, each._attn_implementation) for each in found.values() if hasattr(each, "_attn_implementation")]


def _is_eager(model: Any) -> bool:
    return any(own == "eager" for _, own in _implementations(model))


@contextmanager
def _fused(model: Any) -> Iterator[None]:
    """While open, a model of transformers whose attention is eager runs torch's fused attention."""
    before = _implementations(model)
    try:
        for config, own in before:  # a configuration passes its attention on to those inside it, which come later
            config._attn_implementation = "sdpa" if own == "eager" else own
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own
