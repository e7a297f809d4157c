"""Deletion and insertion: how fast the score of a class falls, or rises, in the order of an attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from attnchain_evals.perturbation.class_score import ClassScore
from attnchain_evals.perturbation.curve import Mode, Order, PerturbationCurve, Rounding
from attnchain_evals.perturbation.features import Features
from attnchain_evals.perturbation.given import Reduction
from attnchain_evals.perturbation.occlusion import Occlusion
from attnchain_evals.perturbation.perturbation import Perturbation


def perturbation_curve(
    model: Callable[[Tensor], Any],
    inputs: Tensor,
    attributions: Any,
    target: int | Tensor | None = None,
    mode: Mode = "deletion",
    *,
    occlusion: str | Occlusion | Callable[[Tensor], Tensor] = "mean",
    order: Order = "morf",
    fractions: int | Sequence[float] = 20,
    batch_size: int = 64,
    features: Features = "auto",
    score: ClassScore = "probability",
    ends: bool = True,
    seed: int = 0,
    rounding: Rounding = "nearest",
    reduction: Reduction = "sum",
) -> PerturbationCurve:
    """Returns how the score of a class changes when features are deleted from the input, or inserted into the occluded input.

    A curve goes from the clean to the wholly occluded input (deletion), or back (insertion). Equal scores keep raster order.
    Without equal scores, inserting the most relevant features first shows the images of deleting the least relevant first,
    from the other end. Where `symmetric` of the curve is true, AUC(insertion) is then AUC(deletion, "lerf"), and SRG =
    AUC(LeRF) − AUC(MoRF) = insertion − deletion. Rounding can make equal steps asymmetric: half of 25 features is 12.

    Args:
        model: inputs → logits (batch, class), or an output with `.logits`, in eval mode. A language model (batch, token,
            class) is read at its last token.
        inputs: images (batch, channel, height, width), or token numbers (batch, token) without padding.
        attributions: (batch, rows, columns), one score per patch (`output="grid"`) or per pixel; (batch, token) for texts. Or
            as Captum gives them, (batch, channel, height, width) and (batch, token, width). Tensors, arrays, or lists of them.
        target: a class, or one per example, the same for all steps. The clean prediction when None.
        mode: "deletion" (a lower AUC is better) or "insertion" (a higher AUC is better).
        occlusion: how features are removed. Images: "mean", "blur", "zero", "noisy-linear", "token-drop", "attention-mask",
            "mask-token". Texts: "attention-mask", "token-delete", "mean-embedding", "pad-token". Or an `Occlusion`, or a
            callable inputs → replacement.
        order: "morf" takes the most relevant features first, "lerf" the least relevant; "random" ignores the attributions.
        fractions: a number of equal steps, or the fractions. They are rounded to whole features.
        batch_size: inputs per forward.
        features: "auto" is the tokens of a text and the cells of an image's attributions; where these are pixels, they are
            pooled onto the model's own patches. Images: "patch" (the cells as they are), "pixel" (attributions are enlarged
            bilinearly), a grid (rows, columns), a label map (batch, height, width), or a callable images → label map, such as
            `Superpixels()`. Texts: "token", or a label map (batch, token) of words, with −1 for tokens that are never removed.
        score: "probability", "log-probability", "logit", "log-odds" or "accuracy". See `class_score`.
        ends: add the fractions 0 and 1.
        seed: of the random order. The order of an example does not depend on its batch.
        rounding: of fractions to whole features, to the "nearest" or "up".
        reduction: of Captum's channels and widths of embeddings to one score: "sum", "absolute" or "norm".

    Warns where the cells of "auto" are pixels, because the model does not tell its patches.

    Raises:
        AttentionError: shapes that do not fit, attributions with NaN, a model in train mode, a class that the model lacks,
            fractions outside [0, 1], an unknown name, or a model that does not allow the occlusion.

    Source: Petsiuk et al. 2018 (RISE) for the two curves; Bluecher et al. 2024 (arXiv 2401.06654) for SRG.
    """
    experiment = Perturbation(model, inputs, occlusion, batch_size)
    return experiment.curve(
        attributions,
        target,
        mode,
        order=order,
        fractions=fractions,
        features=features,
        score=score,
        ends=ends,
        seed=seed,
        rounding=rounding,
        reduction=reduction,
    )
