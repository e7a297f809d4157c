"""Deletion and insertion: how fast the evidence goes, or comes, when features are taken in the order of an attribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.perturbation.class_score import ClassScore, class_score, logits_of
from attnchain_evals.perturbation.features import Features, Ranked, ranked
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_interp import AttentionError
from attnchain_interp.reprs import brief

Mode = Literal["deletion", "insertion"]
Order = Literal["morf", "lerf", "random"]
Rounding = Literal["nearest", "up"]


@final
@dataclass(frozen=True)
class PerturbationCurve:
    """The score of the target class against the fraction of features deleted or inserted.

    Attributes:
        fractions: (step,) as they really are after rounding to whole features; (batch, step) for a label map, whose examples
            have different numbers of features.
        scores: (batch, step) score of the target.
    """

    fractions: Tensor
    scores: Tensor

    def __repr__(self) -> str:
        batch, steps = self.scores.shape
        return f"PerturbationCurve(batch {batch}, {steps} steps, mean AUC {float(self.auc.mean()):.3f})"

    def _repr_html_(self) -> str | None:
        """The mean curve as inline SVG, in a notebook; None for what does not fit on axes from 0 that all examples share."""
        from attnchain_evals.report.plots import curve_plot

        if self.fractions.ndim != 1 or bool((self.scores < 0).any()):
            return None
        name = f"mean of {len(self.scores)}, AUC {float(self.auc.mean()):.3f}"
        return curve_plot(self.fractions.tolist(), {name: self.scores.mean(0).tolist()})

    @property
    def auc(self) -> Tensor:
        """(batch,) area under each curve by the trapezoidal rule against the actual fractions, over their range.

        In [0, 1] for probabilities and accuracy: the mean height of the curve. From 0 to 1 the range is 1.
        """
        area = torch.trapezoid(self.scores, self.fractions, dim=1)
        return area / (self.fractions[..., -1] - self.fractions[..., 0])


def perturbation_curve(
    model: Callable[[Tensor], Any],
    inputs: Tensor,
    attributions: Tensor,
    target: int | Tensor | None = None,
    mode: Mode = "deletion",
    occlusion: str | Occlusion | Callable[[Tensor], Tensor] = "mean",
    order: Order = "morf",
    fractions: int | Sequence[float] = 20,
    batch_size: int = 64,
    features: Features = "patch",
    score: ClassScore = "probability",
    ends: bool = True,
    seed: int = 0,
    rounding: Rounding = "nearest",
) -> PerturbationCurve:
    """Deletion: features are removed from the input in order. Insertion: they are put back into the occluded input.

    The ends are the clean and the wholly occluded input. Patches are ranked, not pixels; equal scores keep raster order
    (stable sort). Inserting the most relevant first shows the same images as deleting the least relevant first, from the
    other end, so at symmetric fractions AUC(insertion) = AUC(deletion, "lerf"), and SRG = AUC(LeRF) − AUC(MoRF) =
    insertion − deletion.

    Args:
        model: inputs → logits (batch, class), or an output that has `.logits`; in eval mode. Of a language model's logits
            (batch, token, class) those of the last token are meant.
        inputs: images (batch, channel, height, width), or token numbers (batch, token) without padding.
        attributions: (batch, rows, columns), one score per patch (`output="grid"`), or one per pixel; of texts (batch, token).
        target: class, or one per example; the clean prediction when None. The same for all steps.
        mode: "deletion" (lower AUC is better) or "insertion" (higher is better).
        occlusion: "mean", "blur", "zero", "noisy-linear", "token-drop", "attention-mask", "mask-token"; of texts
            "attention-mask", "token-delete", "pad-token"; an `Occlusion`, or a callable inputs → replacement.
        order: "morf" takes the most relevant first, "lerf" the least relevant; "random" knows no attribution.
        fractions: a number of equal steps, or the fractions themselves; rounded to whole features.
        batch_size: inputs per forward.
        features: "patch", "pixel" (attributions enlarged bilinearly), a label map (batch, height, width), or a callable images
            → label map, such as `Superpixels()`; of texts "token", or a label map (batch, token) of words, with −1 for tokens
            that are never removed.
        score: "probability", "logit", "log-odds" or "accuracy", as in `class_score`.
        ends: add the fractions 0 and 1.
        seed: of the random order; the order of an example does not depend on its batch.
        rounding: of fractions to whole features, to the "nearest" or "up".

    Raises:
        AttentionError: shapes that do not fit, NaN attributions, a model in train mode, a class that the model lacks,
            fractions outside [0, 1], an unknown name, or a model that does not allow the occlusion.

    Source: Petsiuk et al. 2018 (RISE) for the two curves; Bluecher et al. 2024 (arXiv 2401.06654) for SRG.
    """
    experiment = Perturbation(model, inputs, occlusion, batch_size)
    return experiment.curve(attributions, target, mode, order, fractions, features, score, ends, seed, rounding)


@final
class Perturbation:
    """A model, inputs and an occlusion. Both ends of every curve of images, clean and wholly occluded, are run once.

    Args:
        model, inputs, occlusion, batch_size: as in `perturbation_curve`.
        first: the number of the first input in the data, from which random orders and noise are seeded.

    Raises:
        AttentionError: as `perturbation_curve`.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Callable[[Tensor], Any],
        inputs: Tensor,
        occlusion: str | Occlusion | Callable[[Tensor], Tensor] = "mean",
        batch_size: int = 64,
        first: int = 0,
    ) -> None:
        if isinstance(model, nn.Module) and model.training:
            raise AttentionError("the model is in train mode, so its scores are not those of use. Call model.eval() first.")
        if inputs.ndim != 4 and (inputs.ndim != 2 or inputs.is_floating_point()):
            raise AttentionError(
                f"inputs has shape {tuple(inputs.shape)}; images are (batch, channel, height, width), texts the integers"
                " (batch, token)."
            )
        occlusion = occlusion_named(occlusion)
        if inputs.ndim not in occlusion.axes:
            kind = "images" if inputs.ndim == 4 else "texts"
            raise AttentionError(f"{occlusion.name!r} removes no parts of {kind}; docs/evaluation.md lists what does.")
        self.inputs = inputs
        self._batch_size, self._first = batch_size, first
        self._model, self._occlusion = model, occlusion
        self._view = occlusion.over(model, inputs, first)
        self.clean = torch.cat([self._logits(model(part)) for part in inputs.split(batch_size)])

    def __repr__(self) -> str:
        return f"Perturbation({brief(self._model)}, {len(self.inputs)} inputs, {self._occlusion!r})"

    @cached_property
    def occluded(self) -> Tensor:
        """(batch, class): logits of the wholly occluded images."""
        images, height, width = len(self.inputs), *self.inputs.shape[-2:]
        labels = self.inputs.new_zeros(images, height, width, dtype=torch.long)
        return self.without(labels, [torch.ones_like(labels[:, 0, :1], dtype=torch.bool)])[:, 0]

    @torch.no_grad()
    def without(self, labels: Tensor, subsets: Iterable[Tensor]) -> Tensor:
        """(batch, subset, class): logits of the inputs without the features of each subset.

        Subsets are drawn from the iterable as they are needed, and forwarded together as far as a batch has room.

        Args:
            labels: the feature of each place of the inputs, as of `Ranked`.
            subsets: each (batch, feature) bool, true where removed.
        """
        images = len(self.inputs)
        waiting, found = iter(subsets), list[Tensor]()
        while group := list(islice(waiting, max(1, self._batch_size // images))):
            removed = torch.cat(group)
            examples = torch.arange(images, device=labels.device).repeat(len(group))
            for example, part in zip(examples.split(self._batch_size), removed.split(self._batch_size), strict=True):
                own = labels[example]
                places = part.gather(1, own.flatten(1).clamp_min(0)).view(own.shape) & (own >= 0)
                found.append(self._logits(self._view(example, places)))
        logits = torch.cat(found) if found else self.clean[:0]
        return logits.view(-1, images, self.clean.shape[1]).transpose(0, 1)

    @torch.no_grad()
    def one_without(self, example: int, labels: Tensor, subsets: Tensor) -> Tensor:
        """(subset, class): logits of one image without each of the subsets (subset, feature), by labels (height, width)."""
        pixels = subsets.to(labels.device)[:, labels.flatten()].view(-1, *labels.shape)
        number = torch.full((len(pixels),), example, device=labels.device)
        pairs = zip(number.split(self._batch_size), pixels.split(self._batch_size), strict=True)
        return torch.cat([self._logits(self._view(*pair)) for pair in pairs])

    def target(self, target: int | Tensor | None) -> Tensor:
        """(batch,): the classes, checked; those of the clean prediction when None."""
        batch, classes = self.clean.shape
        chosen = self.clean.argmax(1) if target is None else torch.as_tensor(target, device=self.clean.device)
        if chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != batch) or bool(((chosen < 0) | (chosen >= classes)).any()):
            raise AttentionError(
                f"target {target!r} does not name classes of this model; it has {classes}, numbered 0 to {classes - 1}: pass"
                f" one, or one for each of the {batch} examples."
            )
        return chosen.long().expand(batch)

    def curve(
        self,
        attributions: Tensor,
        target: int | Tensor | None = None,
        mode: Mode = "deletion",
        order: Order = "morf",
        fractions: int | Sequence[float] = 20,
        features: Features = "patch",
        score: ClassScore = "probability",
        ends: bool = True,
        seed: int = 0,
        rounding: Rounding = "nearest",
    ) -> PerturbationCurve:
        """As `perturbation_curve`, with its arguments and errors."""
        if mode not in ("deletion", "insertion") or order not in ("morf", "lerf", "random"):
            raise AttentionError(
                f'mode={mode!r}, order={order!r}; use "deletion" or "insertion", and "morf", "lerf" or "random".'
            )
        found = ranked(attributions, self.inputs, features)
        if order == "random":
            found = found._replace(scores=self._shuffled(found, seed))
        counts = _counts(fractions, found.sizes, ends, rounding)
        chosen = self.target(target)
        ranks = found.ranks("lerf" if order == "lerf" else "morf")
        deleted = counts if mode == "deletion" else found.sizes[:, None] - counts
        clean, occluded = (deleted == 0).all(0), (deleted == found.sizes[:, None]).all(0)
        between = (~clean & ~occluded).nonzero()[:, 0]
        taken = (ranks < counts[:, step, None] for step in between)  # the first `count` features of the order
        shown = self.without(found.labels, (part if mode == "deletion" else ~part for part in taken))
        logits = shown.new_empty(len(shown), counts.shape[1], shown.shape[2])
        logits[:, between] = shown
        logits[:, clean] = self.clean[:, None]
        if bool(occluded.any()):
            logits[:, occluded] = self._emptied(found)[:, None]
        actual = counts / found.sizes[:, None]
        return PerturbationCurve(actual[0] if isinstance(features, str) else actual, class_score(logits, chosen, score))

    def _emptied(self, found: Ranked) -> Tensor:
        """(batch, class): logits of the inputs without any feature; of a text, some tokens belong to none."""
        return self.occluded if self.inputs.ndim == 4 else self.without(found.labels, [found.present])[:, 0]

    def _logits(self, output: Any) -> Tensor:
        return logits_of(output, self.inputs).float()

    def _shuffled(self, found: Ranked, seed: int) -> Tensor:
        rows = [
            np.random.default_rng([seed, self._first + example]).random(found.scores.shape[1])
            for example in range(len(found.scores))
        ]
        return torch.from_numpy(np.stack(rows)).to(found.scores.device)


def _counts(fractions: int | Sequence[float], sizes: Tensor, ends: bool, rounding: Rounding) -> Tensor:
    """(batch, step): how many features are taken, in rising order; with ends no step twice."""
    if isinstance(fractions, int):
        fractions = [step / fractions for step in range(fractions + 1)] if fractions > 0 else []
    wanted = sorted({*fractions, 0, 1}) if ends else sorted({*fractions})
    if not fractions or not all(0 <= fraction <= 1 for fraction in wanted):
        raise AttentionError(f"fractions={fractions!r}; pass a number of steps above 0, or fractions between 0 and 1.")
    parts = torch.tensor(wanted, dtype=torch.float64, device=sizes.device)
    if rounding not in ("nearest", "up"):
        raise AttentionError(f'rounding={rounding!r}; use "nearest" or "up".')
    exact = parts * sizes[:, None]
    counts = (exact.round() if rounding == "nearest" else (exact - 1e-9).ceil()).long()  # 0.1 of 30 is 3, not 4
    return counts.unique(dim=1) if ends else counts
