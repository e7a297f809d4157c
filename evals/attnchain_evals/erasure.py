"""Erasure of tokens: how much of an answer's probability the top-ranked tokens carry, and how much they carry alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, final

import torch
from torch import Tensor

from attnchain_interp import AttentionError

THRESHOLDS: Final = (0.01, 0.05, 0.1, 0.2, 0.5)
Predict = Callable[[Tensor, Tensor], Tensor]


@final
class TokenErasure:
    """A model, token sequences and a way to erase tokens; the answer is fixed at the clean prediction, which is run once.

    Positions never move: an erased token is masked out, or another takes its place. Of a decoder, deleting would move every
    later token.

    Args:
        predict: (input_ids, attention_mask) → logits (batch, class); of a decoder those at the answering position:
            `lambda ids, mask: model(ids, attention_mask=mask).logits[:, -1]`. In eval mode.
        input_ids: (batch, token).
        ranked: (batch, token) bool, the tokens that are ranked and may be erased. Leave out special tokens, padding, the
            question and the answering position: they are erased by no order.
        by: "mask" (attention mask 0 in every layer, so that no token attends to the erased one) or the number of the token
            that takes its place (of [MASK], or of a word without meaning).
        attention_mask: (batch, token), zero at padding; all ones when None.
        target: (batch,) the class whose probability is meant; the clean prediction when None.

    Raises:
        AttentionError: shapes that do not fit, another `by`, an example in which nothing is ranked.

    Source: DeYoung et al., *ERASER: A Benchmark to Evaluate Rationalized NLP Models*, ACL 2020.
    """

    @torch.no_grad()
    def __init__(
        self,
        predict: Predict,
        input_ids: Tensor,
        ranked: Tensor,
        by: Literal["mask"] | int = "mask",
        attention_mask: Tensor | None = None,
        target: Tensor | None = None,
    ) -> None:
        if by != "mask" and (isinstance(by, bool) or not isinstance(by, int)):
            raise AttentionError(f'by={by!r} is unknown; use "mask", or the number of the token that takes the place.')
        _check_ranked(ranked, input_ids.shape)
        self._predict, self._ids, self._ranked, self._by = predict, input_ids, ranked, by
        self._mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = predict(input_ids, self._mask)
        if logits.ndim != 2 or len(logits) != len(input_ids):
            raise AttentionError(
                f"predict gives {tuple(logits.shape)}; it must be logits (batch, class), of the answer alone."
            )
        self.target = logits.argmax(1) if target is None else target
        self.clean = self._probability(logits)

    def __repr__(self) -> str:
        batch, tokens = self._ids.shape
        return f"TokenErasure(batch {batch}, {tokens} tokens, {int(self._ranked.sum())} ranked in all, by={self._by!r})"

    def comprehensiveness(self, scores: Tensor, k: int | Tensor) -> Tensor:
        """(batch,) p(x) − p(x without its top k): high where the top tokens were needed.

        Raises:
            AttentionError: as `top`.
        """
        return self.clean - self._without(top(scores, k, self._ranked))

    def sufficiency(self, scores: Tensor, k: int | Tensor) -> Tensor:
        """(batch,) p(x) − p(only the top k, and what is not ranked): low where the top tokens were enough.

        Raises:
            AttentionError: as `top`.
        """
        return self.clean - self._without(self._ranked & ~top(scores, k, self._ranked))

    def aopc(self, scores: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Tensor, Tensor]:
        """Comprehensiveness and sufficiency (batch,), each the mean over the top ⌈threshold · ranked tokens⌉.

        Raises:
            AttentionError: as `top`; no thresholds, or one outside (0, 1].
        """
        if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
            raise AttentionError(f"thresholds={thresholds!r}; they are shares of the ranked tokens, above 0 and up to 1.")
        counts = [_share(self._ranked, threshold) for threshold in thresholds]
        comprehensiveness = torch.stack([self.comprehensiveness(scores, k) for k in counts]).mean(0)
        return comprehensiveness, torch.stack([self.sufficiency(scores, k) for k in counts]).mean(0)

    @torch.no_grad()
    def _without(self, erased: Tensor) -> Tensor:
        if self._by == "mask":
            return self._probability(self._predict(self._ids, self._mask.masked_fill(erased, 0)))
        return self._probability(self._predict(self._ids.masked_fill(erased, int(self._by)), self._mask))

    def _probability(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1).gather(1, self.target[:, None])[:, 0]


def top(scores: Tensor, k: int | Tensor, ranked: Tensor) -> Tensor:
    """(batch, token) bool: the k ranked tokens of the highest scores; equal scores in the order of the tokens.

    Args:
        scores: (batch, token); what is not ranked may hold anything.
        k: how many, or (batch,) how many of each example; more than there are means all.
        ranked: (batch, token) bool.

    Raises:
        AttentionError: shapes that do not fit, NaN among the ranked scores, a negative k.

    >>> top(torch.tensor([[0.9, 0.2, 0.5, 0.5]]), 1, torch.tensor([[False, True, True, True]]))
    tensor([[False, False,  True, False]])
    """
    _check_scores(scores, ranked)
    k = torch.as_tensor(k)
    if bool((k < 0).any()):
        raise AttentionError(f"k is {k.tolist()}; it counts tokens: 0, 1, 2, …")
    order = scores.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, (~ranked).gather(1, order).long().argsort(dim=1, stable=True))  # what is not ranked comes last
    return (order.argsort(1) < k.reshape(-1, 1)) & ranked


def evidence_scores(scores: Tensor, evidence: Tensor, ranked: Tensor) -> tuple[Tensor, Tensor]:
    """Average precision of the evidence among the ranked tokens, and whether the top one is evidence: each (batch,).

    Equal scores count as one threshold in the average precision (scikit-learn's); the top one is the first of equals.

    Args:
        scores, ranked: as in `top`.
        evidence: (batch, token) bool, known beforehand.

    Raises:
        AttentionError: as `top`; an example without evidence among its ranked tokens.
    """
    from sklearn.metrics import average_precision_score

    _check_scores(scores, ranked)
    if evidence.shape != ranked.shape or not bool((evidence & ranked).any(1).all()):
        raise AttentionError(f"evidence {tuple(evidence.shape)} must mark one of the ranked tokens of every example.")
    rows = zip(scores, evidence, ranked, strict=True)
    precision = [average_precision_score(found[row].numpy(), score[row].numpy()) for score, found, row in rows]
    hit = (top(scores, 1, ranked) & evidence).any(1)
    return torch.tensor(precision, dtype=torch.float64), hit.double()


def _share(ranked: Tensor, threshold: float) -> Tensor:
    return (ranked.sum(1).double() * threshold - 1e-9).ceil().long()  # 0.1 of 30 is 3, not 4


def _check_ranked(ranked: Tensor, shape: torch.Size) -> None:
    if ranked.dtype != torch.bool or ranked.shape != shape:
        raise AttentionError(f"ranked is {ranked.dtype} of shape {tuple(ranked.shape)}; it must be bool of {tuple(shape)}.")
    if not bool(ranked.any(1).all()):
        raise AttentionError("an example has no ranked token; leave it out, or rank its text tokens.")


def _check_scores(scores: Tensor, ranked: Tensor) -> None:
    _check_ranked(ranked, scores.shape)
    if bool(scores[ranked].isnan().any()):
        raise AttentionError(f"{int((scores.isnan() & ranked).any(1).sum())} examples have NaN scores; leave these out.")
