"""Deletion and insertion: how fast the evidence goes, or comes, when patches are taken in the order of an attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_evals.occlusion import Occlusion, occlusion_named
from attnchain_interp import AttentionError

Mode = Literal["deletion", "insertion"]
Order = Literal["morf", "lerf"]


@final
@dataclass(frozen=True)
class PerturbationCurve:
    """The probability of the target class against the fraction of patches deleted or inserted.

    Attributes:
        fractions: (step,) from 0 to 1, as they really are after rounding to whole patches.
        scores: (batch, step) probability of the target.
    """

    fractions: Tensor
    scores: Tensor

    @property
    def auc(self) -> Tensor:
        """(batch,) area under each curve by the trapezoidal rule against the actual fractions, in [0, 1]."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)


def perturbation_curve(
    model: Callable[[Tensor], Any],
    inputs: Tensor,
    attributions: Tensor,
    target: int | Tensor | None = None,
    mode: Mode = "deletion",
    occlusion: str | Occlusion = "mean",
    order: Order = "morf",
    fractions: int | Sequence[float] = 20,
    batch_size: int = 64,
) -> PerturbationCurve:
    """Deletion: patches are removed from the image in order. Insertion: they are put back into the removed image.

    The ends are the clean and the wholly occluded image. Patches are ranked, not pixels; equal scores keep raster order
    (stable sort). Inserting the most relevant first shows the same images as deleting the least relevant first, from the
    other end, so at symmetric fractions AUC(insertion) = AUC(deletion, "lerf"), and SRG = AUC(LeRF) − AUC(MoRF) =
    insertion − deletion.

    Args:
        model: images → logits (batch, class), or an output that has `.logits`; in eval mode.
        inputs: (batch, channel, height, width).
        attributions: (batch, rows, columns), one score per patch (`output="grid"`).
        target: class, or one per example; the clean prediction when None. The same for all steps.
        mode: "deletion" (lower AUC is better) or "insertion" (higher is better).
        occlusion: "mean", "blur", or a callable images → replacement.
        order: "morf" takes the most relevant first, "lerf" the least relevant.
        fractions: a number of equal steps, or the fractions themselves; rounded to whole patches, ends added.
        batch_size: images per forward.

    Raises:
        AttentionError: shapes that do not fit, NaN attributions, a model in train mode, a class that the model lacks,
            fractions outside [0, 1], or an unknown name.

    Source: Petsiuk et al. 2018 (RISE) for the two curves; Bluecher et al. 2024 (arXiv 2401.06654) for SRG.
    """
    experiment = Perturbation(model, inputs, occlusion, batch_size)
    return experiment.curve(attributions, target, mode, order, fractions)


@final
class Perturbation:
    """A model, inputs and an occlusion. Both ends of every curve, the clean and the wholly occluded image, are run once.

    Args:
        model, inputs, occlusion, batch_size: as in `perturbation_curve`.

    Raises:
        AttentionError: as `perturbation_curve`.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Callable[[Tensor], Any],
        inputs: Tensor,
        occlusion: str | Occlusion = "mean",
        batch_size: int = 64,
    ) -> None:
        if isinstance(model, nn.Module) and model.training:
            raise AttentionError("the model is in train mode, so its scores are not those of use. Call model.eval() first.")
        self._model, self._inputs, self._batch_size = model, inputs, batch_size
        self._replacement = occlusion_named(occlusion)(inputs)
        self._clean = self._logits(inputs)
        self._occluded = self._logits(self._replacement)

    @torch.no_grad()
    def curve(
        self,
        attributions: Tensor,
        target: int | Tensor | None = None,
        mode: Mode = "deletion",
        order: Order = "morf",
        fractions: int | Sequence[float] = 20,
    ) -> PerturbationCurve:
        """As `perturbation_curve`, with its arguments and errors."""
        inputs = self._inputs
        if mode not in ("deletion", "insertion") or order not in ("morf", "lerf"):
            raise AttentionError(f'mode={mode!r}, order={order!r}; use "deletion" or "insertion", and "morf" or "lerf".')
        if attributions.ndim != 3 or len(attributions) != len(inputs):
            raise AttentionError(
                f"attributions has shape {tuple(attributions.shape)} for {len(inputs)} inputs; it must be (batch, rows,"
                ' columns), one score per patch: ask the method for output="grid".'
            )
        if bool(attributions.isnan().any()):
            bad = int(attributions.isnan().flatten(1).any(1).sum())
            raise AttentionError(f"{bad} attributions hold NaN; leave these out.")
        n = attributions[0].numel()
        counts = _counts(fractions, n)
        ranks = _ranks(attributions.flatten(1), descending=order == "morf").to(inputs.device)
        chosen = _target(self._clean, target)

        def score(removed: Tensor) -> Tensor:
            mask = F.interpolate(removed.view(attributions.shape)[:, None].float(), inputs.shape[-2:]).bool()
            return self._logits(torch.where(mask, self._replacement, inputs))

        first, last = (self._clean, self._occluded) if mode == "deletion" else (self._occluded, self._clean)
        taken = [ranks < count for count in counts[1:-1]]  # the first `count` patches of the order
        logits = [first, *(score(part if mode == "deletion" else ~part) for part in taken), last]
        scores = [part.softmax(1).gather(1, chosen[:, None])[:, 0] for part in logits]
        return PerturbationCurve(torch.tensor(counts, device=inputs.device) / n, torch.stack(scores, 1))

    def _logits(self, images: Tensor) -> Tensor:
        outputs = [self._model(part) for part in images.split(self._batch_size)]
        logits = torch.cat([getattr(output, "logits", output) for output in outputs])
        if logits.ndim != 2:
            raise AttentionError(f"the model returned shape {tuple(logits.shape)}; a curve needs logits (batch, class).")
        return logits.float()


def _counts(fractions: int | Sequence[float], n: int) -> list[int]:
    if isinstance(fractions, int):
        fractions = [step / fractions for step in range(fractions + 1)] if fractions > 0 else []
    if not fractions or not all(0 <= fraction <= 1 for fraction in fractions):
        raise AttentionError(f"fractions={fractions!r}; pass a number of steps above 0, or fractions between 0 and 1.")
    return sorted({0, n, *(round(fraction * n) for fraction in fractions)})


def _ranks(scores: Tensor, descending: bool) -> Tensor:
    """(batch, patch): the place of each patch in the order, equal scores in raster order."""
    order = scores.argsort(dim=1, descending=descending, stable=True)
    return order.argsort(1)


def _target(logits: Tensor, target: int | Tensor | None) -> Tensor:
    batch, classes = logits.shape
    chosen = logits.argmax(1) if target is None else torch.as_tensor(target, device=logits.device)
    if chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != batch) or bool(((chosen < 0) | (chosen >= classes)).any()):
        raise AttentionError(
            f"target {target!r} does not name classes of this model; it has {classes}, numbered 0 to {classes - 1}: pass one,"
            f" or one for each of the {batch} examples."
        )
    return chosen.long().expand(batch)
