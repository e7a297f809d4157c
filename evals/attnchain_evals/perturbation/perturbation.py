"""A model and inputs under an occlusion: their logits and scores without sets of features, and curves of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.perturbation.class_score import (
    ClassScore,
    KnownScores,
    class_logits,
    class_score,
    classes_of,
    clean_logits,
)
from attnchain_evals.perturbation.curve import Mode, Order, PerturbationCurve, Rounding, counts_of
from attnchain_evals.perturbation.features import Features, Ranked, ranked
from attnchain_evals.perturbation.given import Reduction, scores_of
from attnchain_evals.perturbation.occlusion import Occlusion, occlusion_named
from attnchain_evals.perturbation.patches import Patches, own_features, patches_of
from attnchain_interp import AttentionError
from attnchain_interp.capture import check_settled
from attnchain_interp.checks import check_one_of, check_tensor, check_whole_number
from attnchain_interp.reprs import brief


@final
class Perturbation:
    """A model and inputs under an occlusion. The clean and the wholly occluded inputs are run once for all curves.

    Each set of tokens that is removed from a text is run once. Curves share the forwards of the sets that they share.

    Args:
        model, inputs, occlusion, batch_size: See `perturbation_curve`.
        first: the number of the first input in the data. It seeds random orders and noise.
        clean: the logits of the inputs (batch, class) if they are known.

    Raises:
        AttentionError: a model in train mode, inputs that are neither images nor texts, or a model or inputs that the
            occlusion does not take.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Callable[[Tensor], Any],
        inputs: Tensor,
        occlusion: str | Occlusion | Callable[[Tensor], Tensor] = "mean",
        batch_size: int = 64,
        *,
        first: int = 0,
        clean: Tensor | None = None,
    ) -> None:
        check_whole_number("batch_size", batch_size, "the number of inputs of a forward")
        if not callable(model):
            raise AttentionError(
                f"model is {brief(model)}, which cannot be called.", "Pass a module, or a function: inputs → logits."
            )
        if isinstance(model, nn.Module) and model.training:
            raise AttentionError("the model is in train mode, where dropout changes its scores.", "Call model.eval() first.")
        if isinstance(model, nn.Module):
            check_settled(model)
        check_tensor("inputs", inputs, "of images, or of token numbers")
        if inputs.ndim != (4 if inputs.is_floating_point() else 2) or not inputs.numel():
            raise AttentionError(
                f"inputs has shape {tuple(inputs.shape)} of {inputs.dtype}.",
                "Pass images (batch, channel, height, width) of floating-point numbers, or token numbers (batch, token).",
            )
        occlusion = occlusion_named(occlusion)
        if inputs.ndim not in occlusion.axes:
            kind, usual = ("images", "mean") if inputs.ndim == 4 else ("texts", "attention-mask")
            raise AttentionError(f"{occlusion.name!r} removes no parts of {kind}.", f'Pass occlusion="{usual}", for instance.')
        self.inputs = inputs
        self._batch_size, self._first = batch_size, first
        self._model, self._occlusion = model, occlusion
        self._view = occlusion.over(model, inputs, first)
        self.clean = clean_logits(model, inputs, batch_size) if clean is None else clean
        self._known = KnownScores(lambda texts, removed: self._logits(self._view(texts, removed)), batch_size)

    def __repr__(self) -> str:
        return f"Perturbation({brief(self._model)}, {len(self.inputs)} inputs, {self._occlusion!r})"

    @cached_property
    def patches(self) -> Patches | None:
        """The model's patches of images; None where it does not tell them, and for texts."""
        return patches_of(self._model, self.inputs) if self.inputs.ndim == 4 else None

    def ranked(self, attributions: Tensor, features: Features = "auto") -> Ranked:
        """Returns the features of the inputs, with their scores. See `perturbation_curve` for "auto", and `ranked`."""
        features = torch.from_numpy(features) if isinstance(features, np.ndarray) else features
        text, pixels = self.inputs.ndim == 2, attributions.shape[1:] == self.inputs.shape[2:]
        patches = self.patches if features == "auto" or isinstance(features, tuple) or not pixels else None
        if features == "auto":
            features = "token" if text else own_features(self._model, patches, attributions, self.inputs)
        return ranked(attributions, self.inputs, features, patches)

    @cached_property
    def occluded(self) -> Tensor:
        """(batch, class): the logits of the wholly occluded images."""
        labels = torch.zeros_like(self.inputs[:, 0], dtype=torch.long)
        return self.without(labels, [torch.ones_like(labels[:, 0, :1], dtype=torch.bool)])[:, 0]

    @torch.no_grad()
    def without(self, labels: Tensor, subsets: Iterable[Tensor]) -> Tensor:
        """Returns the logits (batch, subset, class) of the inputs without the features of each subset.

        Args:
            labels: the feature of each place of the inputs. See `Ranked`.
            subsets: each (batch, feature) bool, true where a feature is removed. They are drawn one batch at a time.
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
    def scores_without(self, labels: Tensor, subsets: Iterable[Tensor], target: Tensor, score: ClassScore) -> Tensor:
        """Returns the scores (batch, subset) of the classes (batch,), without the features of each subset. See `without`."""
        parts = subsets if self.inputs.ndim == 4 else list(subsets)
        if self.inputs.ndim == 4 or not parts:
            return class_score(self.without(labels, parts), target, score)
        removed = torch.stack([part.gather(1, labels.clamp_min(0)) & (labels >= 0) for part in parts], 1)
        return self._known.of(removed, target, score)

    @torch.no_grad()
    def one_without(self, example: int, labels: Tensor, subsets: Tensor) -> Tensor:
        """Returns the logits (subset, class) of one image without each of the subsets (subset, feature).

        The labels (height, width) name the feature of each pixel.
        """
        pixels = subsets.to(labels.device)[:, labels.flatten()].view(-1, *labels.shape)
        number = torch.full((len(pixels),), example, device=labels.device)
        pairs = zip(number.split(self._batch_size), pixels.split(self._batch_size), strict=True)
        return torch.cat([self._logits(self._view(*pair)) for pair in pairs])

    def target(self, target: int | Tensor | None) -> Tensor:
        """Returns the checked classes (batch,). The clean prediction when None. See `classes_of` for errors."""
        return classes_of(target, self.clean)

    def curve(
        self,
        attributions: Any,
        target: int | Tensor | None = None,
        mode: Mode = "deletion",
        *,
        order: Order = "morf",
        fractions: int | Sequence[float] = 20,
        features: Features = "auto",
        score: ClassScore = "probability",
        ends: bool = True,
        seed: int = 0,
        rounding: Rounding = "nearest",
        reduction: Reduction = "sum",
    ) -> PerturbationCurve:
        """Returns the curve of attributions. See `perturbation_curve` for arguments and errors."""
        check_one_of("mode", mode, get_args(Mode))
        check_one_of("order", order, get_args(Order))
        check_whole_number("seed", seed, "the seed of the random order", least=0)
        found = self.ranked(scores_of(attributions, self.inputs, reduction), features)
        if order == "random":
            found = found.shuffled(seed, self._first)
        counts = counts_of(fractions, found.sizes, ends, rounding)
        chosen = self.target(target)
        ranks = found.ranks("lerf" if order == "lerf" else "morf")
        deleted = counts if mode == "deletion" else found.sizes[:, None] - counts
        clean, occluded = (deleted == 0).all(0), (deleted == found.sizes[:, None]).all(0)
        between = (~clean & ~occluded).nonzero()[:, 0]
        taken = (ranks < counts[:, step, None] for step in between)  # the first `count` features of the order
        shown = (part if mode == "deletion" else ~part for part in taken)
        scores = self.clean.new_empty(counts.shape)
        scores[:, between] = self.scores_without(found.labels, shown, chosen, score)
        scores[:, clean] = class_score(self.clean, chosen, score)[:, None]
        if bool(occluded.any()):
            scores[:, occluded] = self._emptied(found, chosen, score)[:, None]
        actual = counts / found.sizes[:, None]
        same = isinstance(features, str | tuple)
        return PerturbationCurve(actual[0] if same else actual, scores, found.named)

    def _emptied(self, found: Ranked, target: Tensor, score: ClassScore) -> Tensor:
        """(batch,): the scores of inputs without any feature. Tokens of a text that belong to no feature stay."""
        if self.inputs.ndim == 4:
            return class_score(self.occluded, target, score)
        return self.scores_without(found.labels, [found.present], target, score)[:, 0]

    def _logits(self, output: Any) -> Tensor:
        return class_logits(output, self.inputs).float()
