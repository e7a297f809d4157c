"""What every method is, on images and on texts: it reads a model, and scores the tokens that it read."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Final, Literal, Self

from captum.attr import Attribution
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.capture.threads import turn
from attnchain_interp.store import AttentionStore, Heads, Start, TokenSelection

Begin = Literal["position", "cross-attention"]

POLICIES: Final[dict[Begin | None, str]] = {
    "position": "the walk starts at the position that predicts the output token and sees the context alone",
    "cross-attention": "the walk over the encoder starts where cross-attention goes from the decoder's position that predicts"
    " the output token (mean over layers and heads)",
    None: "no start: the context of each output token is scored as a whole",
}


class Method(Attribution, ABC):
    """An attribution method: `read` captures what it needs of a model, and `scores` gives one score per token.

    `AttentionAttribution` and `AttentionGradientAttribution` define both. All else says how the method reads texts:
    `TextAttribution` knows a method by these hooks alone. A method with a `start` sets `has_start = True`. Few methods need
    more. `read` runs in the model's `turn`.

    Attributes:
        forward_func: the model.
        tokens: the states of the method; see `TokenLayout.select`. A method without states reads "all" tokens.
        heads: the weights of the heads. "each" gives one row per head, which a text has no place for.
        has_start: whether the method has a `start`, where its walk starts.
        explains_target: whether the source depends on the target. One forward and one backward of a decoder then serve
            `internal_batch_size` output tokens; else one forward serves all output tokens. A text of a classifier has the
            class as its output.
        reads_embeddings: whether the model is called with embeddings in place of token ids.
        reads_contexts: whether each output token is a call of its own, `read` of its context alone. The target is then its
            logit, (position, token), of which the method makes the score that it explains.
        allows_padding: whether padding after the tokens of an example changes none of its scores. The contexts of several
            output tokens are then scored as one padded batch.
        is_additive: whether scores may be summed over the output tokens. A model that generates needs it.
    """

    forward_func: Any
    tokens: TokenSelection = "all"
    heads: Heads = "mean"
    has_start: ClassVar[bool] = False
    explains_target: ClassVar[bool] = False
    reads_embeddings: ClassVar[bool] = False
    reads_contexts: ClassVar[bool] = False
    allows_padding: ClassVar[bool] = False
    is_additive: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "read" in vars(cls):
            cls.read = _in_turn(cls.read)

    @abstractmethod
    def read(self, call: Call) -> Any:
        """Captures the layers that the method reads: an `AttentionStore` (also of contributions), or `AttentionGradients`.

        A method that `reads_contexts` returns any object that has the `tokens`.
        """

    @abstractmethod
    def scores(self, source: Any, first: int = 0) -> Tensor:
        """Returns the scores (batch, token), or (batch, head, token), of a source from `read`.

        Args:
            source: `read` returned it. `TextAttribution` cuts it to the context of one output token.
            first: the number of the first example, or of the output token. Only a random score depends on it.
        """

    def started_at(self, start: Start, store: AttentionStore) -> Method | None:
        """Returns a copy whose walk starts elsewhere; None where the method does not start at tokens.

        Args:
            start: in a decoder the position that predicts the output token, the last one of its context; "last" for a method
                that `allows_padding`, since its contexts are of several lengths. In an encoder–decoder the distribution
                (token,) of cross-attention from that position, over the tokens of the encoder.
            store: the attention that the walk follows.
        """
        return self.changed(start=start) if self.has_start else None

    def restricted_to(self, states: Tensor) -> Method:
        """Returns a copy whose states are chosen by a bool tensor (batch, token)."""
        return self.changed(tokens=states)

    def walks_from_position(self, begin: Begin | None) -> bool:
        """Returns whether the walk of an output token starts or jumps at the position that predicts it.

        Its score there then says where the walk starts: `TextAttributionResult.own`. `begin`: see `text_policy`.
        """
        return begin == "position"

    def text_policy(self, begin: Begin | None) -> str:
        """Returns the words of `TextAttributionResult.policy`, by where `started_at` began the walk (None: nowhere)."""
        return POLICIES[begin]

    def changed(self, **settings: Any) -> Self:
        """Returns a copy with other attributes."""
        copied = copy.copy(self)
        for name, value in settings.items():
            setattr(copied, name, value)
        return copied


def _in_turn(read: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(read)
    def waiting(self: Method, call: Call) -> Any:
        with turn(self.forward_func):
            return read(self, call)

    return waiting
