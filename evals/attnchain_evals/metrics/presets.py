"""Metrics with the settings of their papers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from attnchain_evals.metrics.curves import (
    AOPC,
    SRG,
    Comprehensiveness,
    Deletion,
    Insertion,
    ReverseDeletion,
    Sufficiency,
    curve_metrics,
)
from attnchain_evals.metrics.evidence import EvidenceAP, EvidenceFirst, SentenceCorrelation, SentenceHit
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.metrics.localisation import EnergyInside, MeanAP, MeanIoU, PixelAccuracy, PointingGame
from attnchain_evals.metrics.naopc import NAOPC
from attnchain_evals.metrics.protocol import Protocol, equally_spaced
from attnchain_evals.metrics.saco import SaCo
from attnchain_evals.metrics.subset_metrics import Infidelity, SensitivityN
from attnchain_evals.perturbation.occlusion import Black, KernelBlur, NoisyLinear, Occlusion, TokenDrop, Zero
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of

TEXT: Final[dict[str, Any]] = {"occlusion": "attention-mask", "features": "token"}
"""The default settings of presets for texts."""
OF_TEXT: Final = ("srg", "aopc", "comprehensiveness", "sufficiency", "saco")
"""The presets that also take texts."""
ROAD_REMOVED: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
ROAD_KEPT: Final = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)  # removed in LeRF order: 10 … 90 % are kept


def _row_by_row(height: int, width: int) -> list[int]:
    return [row * width for row in range(height + 1)]


def _floored_tenths(height: int, width: int) -> list[int]:
    return [height * width * tenth // 10 for tenth in range(1, 10)]


def _rise(occlusion: Occlusion) -> Protocol:
    return Protocol(occlusion, "pixel", fractions=_row_by_row, area=equally_spaced)


def _chefer(mean: tuple[float, ...], std: tuple[float, ...]) -> Protocol:
    return Protocol(Black(mean, std), "pixel", fractions=_floored_tenths, score="accuracy", ends=False)


def _road(noise: float, seed: int, fractions: tuple[float, ...]) -> Protocol:
    return Protocol(NoisyLinear(noise, seed), "pixel", fractions=fractions, score="accuracy", ends=False)


def _road_lerf(noise: float = 0.01, seed: int = 0) -> ExampleMetric:
    metric = ReverseDeletion(_road(noise, seed, ROAD_KEPT), "road/lerf")
    metric.version = 4  # one above that of its row: the fractions of 1 were those of MoRF
    return metric


def _masking(target: Literal["prediction", "label"]) -> Protocol:
    return Protocol(TokenDrop(), score="accuracy", target=target)


PRESETS: Final[dict[str, Callable[..., ExampleMetric]]] = {
    "rise/deletion": lambda: Deletion(_rise(Zero()), "rise/deletion"),
    "rise/insertion": lambda: Insertion(_rise(KernelBlur(11, 5.0)), "rise/insertion"),
    "chefer/positive": lambda mean, std: Deletion(_chefer(mean, std), "chefer/positive"),
    "chefer/negative": lambda mean, std: ReverseDeletion(_chefer(mean, std), "chefer/negative"),
    "road/morf": lambda noise=0.01, seed=0: Deletion(_road(noise, seed, ROAD_REMOVED), "road/morf"),
    "road/lerf": _road_lerf,
    "srg": lambda **settings: SRG(Protocol(**settings), "srg"),
    "aopc": lambda **settings: AOPC(Protocol(**settings), "aopc"),
    "naopc": lambda **settings: NAOPC(**settings, name="naopc"),
    "comprehensiveness": lambda **settings: Comprehensiveness(Protocol(**settings), "comprehensiveness"),
    "sufficiency": lambda **settings: Sufficiency(Protocol(**settings), "sufficiency"),
    "sensitivity-n": lambda **settings: SensitivityN(**settings, name="sensitivity-n"),
    "infidelity": lambda **settings: Infidelity(**settings, name="infidelity"),
    "saco": lambda **settings: SaCo(**settings, name="saco"),
    "token-masking": lambda target="prediction": Deletion(_masking(target), "token-masking"),
    "token-masking/lowest": lambda target="prediction": ReverseDeletion(_masking(target), "token-masking/lowest"),
    "acc": PixelAccuracy,
    "miou": MeanIoU,
    "map": MeanAP,
    "pointing-game": PointingGame,
    "energy-inside": EnergyInside,
    "evidence-ap": EvidenceAP,
    "evidence-first": EvidenceFirst,
    "sentence-hit": SentenceHit,
    "sentence-correlation": lambda **settings: SentenceCorrelation(**settings, name="sentence-correlation"),
}


def text_metrics() -> list[ExampleMetric]:
    """Returns the default metrics of texts: curves over tokens, comprehensiveness and sufficiency."""
    eraser = [preset(name, **TEXT) for name in ("comprehensiveness", "sufficiency")]
    return [*curve_metrics((TEXT["occlusion"],), features="token"), *eraser]


def preset(name: str, **settings: Any) -> ExampleMetric:
    """Returns the metric of a name in `PRESETS`, with the settings of its paper. docs/evaluation.md lists them.

    "chefer/positive" and "chefer/negative" need `mean` and `std`, the normalisation of the model's images. All other settings
    default to the values of the papers.

    Raises:
        AttentionError: an unknown name, an unknown setting, or a missing one.

    >>> preset("rise/deletion").higher_is_better
    False
    """
    check_one_of("preset", name, PRESETS)
    try:
        return PRESETS[name](**settings)
    except TypeError as error:
        raise AttentionError(
            f"preset {name!r} does not take {settings}: {error}.",
            'See docs/evaluation.md. The "chefer" presets need mean= and std=, the normalisation of the images.',
        ) from error
