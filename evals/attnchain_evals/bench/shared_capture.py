"""One capture of a batch that all methods share."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from attnchain_evals.bench.answer_scores import answer_scores
from attnchain_evals.perturbation.class_score import class_logits
from attnchain_interp import (
    AttentionAttribution,
    AttentionError,
    AttentionGradientAttribution,
    AttentionStore,
    TokenLayout,
    capture,
    capture_gradients,
)
from attnchain_interp.capture import Maps
from attnchain_interp.gradients import AttentionGradients


def check_classes(numbers: Iterable[int], count: int) -> None:
    """Refuses the number of a class that a model with this many of them does not have."""
    for number in numbers:
        if not 0 <= number < count:
            raise AttentionError(
                f"the model has no class {number}; it has {count} classes.", f"Pass a number from 0 to {count - 1}."
            )


@final
class SharedCapture:
    """A batch with one capture for all methods of the same maps, and one backward for those that read gradients.

    Class-specific methods explain the class of the clean prediction. The class of a language model is the next token. With
    answers, all methods are summed over the tokens of the answer (`answer_scores`), and capture by themselves.

    Args:
        model: inputs → logits, in eval mode; a backbone without logits does for methods of attention alone.
        inputs: images (batch, channel, height, width), or texts (batch, token).
        first: the number of the first example in the data; random scores depend on it.
        target: (batch,) classes; the predicted ones when None.
        answers: (batch, token of the answer) the tokens after each text that are explained together.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        first: int = 0,
        target: Tensor | None = None,
        answers: Tensor | None = None,
    ) -> None:
        self._model, self._inputs, self._first, self._target, self._answers = model, inputs, first, target, answers
        self._stores: dict[Maps | None, AttentionStore] = {}

    @property
    def store(self) -> AttentionStore:
        """The attention."""
        return self.maps("attention")

    def maps(self, kind: Maps | None) -> AttentionStore:
        """Returns the `maps` of a `capture`, which runs once for each. None are the attention of an image."""
        known = self._stores.get("attention")
        if kind is None and known is not None and known.kind == "image":
            return known
        if kind not in self._stores:
            found = self._stores[kind] = capture(self._model, self._inputs, maps=kind)
            self._stores.setdefault(cast(Maps, found.metadata.get("maps", "attention")), found)
        return self._stores[kind]

    @cached_property
    def logits(self) -> Tensor:
        """(batch, class)."""
        return class_logits(self._output, self._inputs)

    @cached_property
    def target(self) -> Tensor:
        """(batch,): the given classes, or the predicted ones."""
        if self._target is None:
            return self.logits.argmax(1)
        if isinstance(self._output, Tensor) and self.logits.shape[1] > 1:
            check_classes(self._target.tolist(), self.logits.shape[1])
        return self._target

    @property
    def known_target(self) -> Tensor | None:
        """The target; None with answers, and where the model outputs no logits and no classes were given."""
        if self._answers is not None:
            return None
        return self.target if self._target is not None or isinstance(self._output, Tensor) else None

    @cached_property
    def gradients(self) -> AttentionGradients:
        return capture_gradients(self._model, self._inputs, target=self._selected)

    def scores(self, method: Any) -> Tensor:
        """Returns the scores (batch, rows, columns) of images, (batch, token) of texts.

        A method that reads more than maps and gradients is called by its `attribute`.
        """
        if self._answers is not None:
            return answer_scores(method, self._model, self._inputs, self._answers, self._first)
        if isinstance(method, AttentionAttribution):
            store = self.maps(method.captured_maps)
            return self._placed(store.tokens, method.score_part(store, self._first))
        if isinstance(method, AttentionGradientAttribution) and method.forward_func is None:
            return self._placed(self.gradients.tokens, method.score(self.gradients))
        return method.attribute(self._inputs, self._selected, output="tokens" if self._inputs.ndim == 2 else "grid")

    @cached_property
    def _output(self) -> Any:
        with torch.no_grad():
            output = self._model(self._inputs)
        return getattr(output, "logits", output)

    @property
    def _selected(self) -> Any:
        """The target as methods take it: with a position, if the logits have one; None of the only logit."""
        if self.known_target is None or self._output.shape[1:] == (1,):
            return None
        if self._output.ndim == 2:
            return self.target
        return [(self._inputs.shape[1] - 1, number) for number in self.target.tolist()]

    def _placed(self, tokens: TokenLayout, scores: Tensor) -> Tensor:
        return scores if self._inputs.ndim == 2 else tokens.to_grid(scores)
