"""Texts whose removed tokens are hidden from attention: nothing is put in their place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_interp.capture import of_this_thread, plain_run
from attnchain_interp.capture.source import forward_of, module_of
from attnchain_interp.errors import AttentionError

_HIDDEN: Final = -(2.0**15)  # a logit that masks alone have, in 16 bits too
_SOFTMAX: Final = (F.softmax, torch.softmax, Tensor.softmax)


@final
class HiddenTokens:
    """Runs a model on texts while no token attends to the hidden ones. The others keep their places and positions.

    Positions are passed as `position_ids` to a model that would count the tokens that its mask shows. Attention without any
    key reads nothing, as in torch's fused kernels: an eager softmax, which would be the mean of hidden tokens, is zero.

    Args:
        model: its forward takes an attention_mask.
        run: rows (row, token) or (row, token, width), and further arguments of the model → its output for each row (row, …).
        text: (1, token) or (1, token, width): the text on which the model is checked.
        position: the token that is read. None where it is not known: then nothing checks that the output follows the mask.
        mask: (1, token), the model's own mask of the text; all tokens when None.
        instead: other removals, for the messages. The first one always leaves tokens.
        fixed: marks tokens (1, token) that the checks leave as they are: an image is written over them.

    Raises:
        AttentionError: a model without an attention_mask, one that counts the tokens that the mask shows, and one whose output
            reads hidden tokens; on a call, one that reads them where no other is left, or gives NaN there.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Any,
        run: Callable[..., Tensor],
        text: Tensor,
        position: int | None = -1,
        mask: Tensor | None = None,
        instead: Sequence[str] = ("another removal",),
        fixed: Tensor | None = None,
    ) -> None:
        self._name, self._instead = type(model).__name__, instead
        if not takes(model, "attention_mask"):
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
        kept = self._mask == 0  # a model may look for its padding, to know where to read
        kept[:, [int(shown[0]), int(shown[-1]), self._end - 1]] = True
        if fixed is not None:
            kept |= fixed.to(kept.device)
        self._text = text
        self._other = torch.where(kept.view(1, tokens, *[1] * (text.ndim - 2)), text, text[:, :1])
        if position is not None and not _close(self(text, kept), self(self._other, kept)):
            raise self._refusal("reads tokens past the attention mask, so masking does not remove them")
        if takes(model, "position_ids"):
            self._keep_positions(int(shown[0]))

    def __repr__(self) -> str:
        return f"HiddenTokens({self._name}, {self._mask.shape[1]} tokens)"

    @torch.no_grad()
    def __call__(self, rows: Tensor, kept: Tensor) -> Tensor:
        """Returns the output of `run` (row, …) for rows of tokens. Those that are not `kept` (row, token) are hidden."""
        mask = kept.long() * self._mask
        empty = ~mask[:, : self._end].any(1)
        if bool(empty.any()):
            self._check_without()
        with plain_run(self._model), _EmptyRows():  # a sliding window may be empty where other tokens are left
            found = self._masked(rows, mask)
        if bool(found[empty.to(found.device)].isnan().any()):
            raise self._refusal("gives NaN where no token is left, as a mean over no token is", self._instead[:1])
        return found

    def _masked(self, rows: Tensor, mask: Tensor) -> Tensor:
        positions = {name: value.expand(*value.shape[:-2], len(rows), -1) for name, value in self._positions.items()}
        return self._run(rows, attention_mask=mask, **positions)

    def _keep_positions(self, first: int) -> None:
        """Passes the positions of the whole text from now on, if the model takes others where the `first` token is hidden.

        Positions of several axes (time, height, width of an image) are those that the model makes of the whole text.
        """
        later, own = self._mask.clone(), {"position_ids": (self._mask.cumsum(1) - 1).clamp_min(0)}
        later[:, first] = 0

        def run(mask: Tensor, **named: Tensor) -> Tensor:
            return self._run(self._text, attention_mask=mask, **named)

        with plain_run(self._model), _EmptyRows():  # in float64 an eager query without any key makes NaN of all
            with _positions_of_axes(self._model) as seen:
                without = run(later)
                if seen:
                    run(self._mask)
            if seen:
                self._positions = {"position_ids": seen[-1]}
            elif not _close(without, run(later, **own)) and _close(run(self._mask), run(self._mask, **own)):
                self._positions = own

    def _check_without(self) -> None:
        """Refuses a model whose output depends on hidden tokens where all are hidden.

        The probe keeps the first and last token, and the one that is read.
        """
        if self._checked_without:
            return
        with plain_run(self._model), _EmptyRows():
            both = [self._masked(text, torch.zeros_like(self._mask)) for text in (self._text, self._other)]
        if not _close(*both):
            raise self._refusal("reads hidden tokens where no other is left", self._instead[:1])
        self._checked_without = True

    def _refusal(self, cause: str, instead: Sequence[str] | None = None) -> AttentionError:
        return AttentionError(f"{self._name} {cause}.", f"Use {' or '.join(instead or self._instead)}.")


def takes(model: Any, name: str) -> bool:
    """Returns whether a model takes an argument of this name, itself or passed on to the model that it adapts (PEFT)."""
    parameters = inspect.signature(forward_of(model) or model).parameters
    passes = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    adapted = getattr(model, "get_base_model", None) if passes else None
    return name in parameters or (callable(adapted) and takes(adapted(), name))


@contextmanager
def _positions_of_axes(model: Any) -> Iterator[list[Tensor]]:
    """Gathers the positions (axis, 1, token) that the parts of a model are given while open."""
    seen: list[Tensor] = []

    def note(_: nn.Module, __: Any, given: dict[str, Any]) -> None:
        if isinstance(positions := given.get("position_ids"), Tensor) and positions.ndim == 3:
            seen.append(positions)

    whole = module_of(model)
    with ExitStack() as opened:
        for module in () if whole is None else whole.modules():
            opened.enter_context(module.register_forward_pre_hook(of_this_thread(note), with_kwargs=True))
        yield seen


def _close(a: Tensor, b: Tensor) -> bool:
    greatest = float(a.abs().nan_to_num().max().clamp_min(1e-6))
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * greatest, equal_nan=True)


@final
class _EmptyRows(TorchFunctionMode):
    """While open, a softmax over nothing but hidden keys is zero."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in _SOFTMAX:
            return result
        given = {**dict(zip(("input", "dim"), args, strict=False)), **(kwargs or {})}
        if given.get("dim") is None:  # it has another name, or none
            return result
        return result.masked_fill(given["input"].amax(given["dim"], keepdim=True) <= _HIDDEN, 0)
