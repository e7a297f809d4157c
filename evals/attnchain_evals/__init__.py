"""Evidence for attributions: perturbation curves, localisation, a benchmark, and the bundled tasks and models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnchain_evals.bench.benchmark import benchmark
    from attnchain_evals.bench.input_magnitude import InputMagnitude
    from attnchain_evals.bench.quantus import explain_func
    from attnchain_evals.bench.results import BenchmarkResult
    from attnchain_evals.bundled import bundled_vit
    from attnchain_evals.bundled.diffusion_model import bundled_diffusion
    from attnchain_evals.bundled.text_models import bundled_decoder, bundled_encoder
    from attnchain_evals.metrics import PRESETS, ExampleMetric, Protocol, Trial, preset
    from attnchain_evals.metrics.segmentation_scores import segmentation_scores
    from attnchain_evals.metrics.statistics import Score
    from attnchain_evals.perturbation.features import Superpixels, words_of
    from attnchain_evals.perturbation.occlusion import (
        AttentionMask,
        Black,
        Blur,
        KernelBlur,
        MaskToken,
        MeanColour,
        NoisyLinear,
        Occlusion,
        PadToken,
        ReplaceToken,
        TokenDelete,
        TokenDrop,
        Zero,
    )
    from attnchain_evals.perturbation.perturbation_curve import Perturbation, PerturbationCurve, perturbation_curve
    from attnchain_evals.tasks.class_folder import ClassFolder
    from attnchain_evals.tasks.cluttered_digits import ClutteredDigits, Example
    from attnchain_evals.tasks.examples import ImageFolder, Passage
    from attnchain_evals.tasks.imagenet_segmentation import ImageNetSegmentation
    from attnchain_evals.tasks.key_values import KeyValues, TextExample
    from attnchain_evals.tasks.mask_placement import WholeImage

_HOME = {
    "AttentionMask": "perturbation.occlusion",
    "BenchmarkResult": "bench.results",
    "Black": "perturbation.occlusion",
    "Blur": "perturbation.occlusion",
    "ClassFolder": "tasks.class_folder",
    "ClutteredDigits": "tasks.cluttered_digits",
    "Example": "tasks.cluttered_digits",
    "ExampleMetric": "metrics",
    "ImageFolder": "tasks.examples",
    "ImageNetSegmentation": "tasks.imagenet_segmentation",
    "InputMagnitude": "bench.input_magnitude",
    "KernelBlur": "perturbation.occlusion",
    "KeyValues": "tasks.key_values",
    "MaskToken": "perturbation.occlusion",
    "MeanColour": "perturbation.occlusion",
    "NoisyLinear": "perturbation.occlusion",
    "Occlusion": "perturbation.occlusion",
    "PRESETS": "metrics",
    "PadToken": "perturbation.occlusion",
    "Passage": "tasks.examples",
    "Perturbation": "perturbation.perturbation_curve",
    "PerturbationCurve": "perturbation.perturbation_curve",
    "Protocol": "metrics",
    "ReplaceToken": "perturbation.occlusion",
    "Score": "metrics.statistics",
    "Superpixels": "perturbation.features",
    "TextExample": "tasks.key_values",
    "TokenDelete": "perturbation.occlusion",
    "TokenDrop": "perturbation.occlusion",
    "Trial": "metrics",
    "WholeImage": "tasks.mask_placement",
    "Zero": "perturbation.occlusion",
    "benchmark": "bench.benchmark",
    "bundled_decoder": "bundled.text_models",
    "bundled_diffusion": "bundled.diffusion_model",
    "bundled_encoder": "bundled.text_models",
    "bundled_vit": "bundled",
    "explain_func": "bench.quantus",
    "perturbation_curve": "perturbation.perturbation_curve",
    "preset": "metrics",
    "segmentation_scores": "metrics.segmentation_scores",
    "words_of": "perturbation.features",
}

__all__ = [
    "AttentionMask",
    "BenchmarkResult",
    "Black",
    "Blur",
    "ClassFolder",
    "ClutteredDigits",
    "Example",
    "ExampleMetric",
    "ImageFolder",
    "ImageNetSegmentation",
    "InputMagnitude",
    "KeyValues",
    "KernelBlur",
    "MaskToken",
    "MeanColour",
    "NoisyLinear",
    "Occlusion",
    "PRESETS",
    "PadToken",
    "Passage",
    "Perturbation",
    "PerturbationCurve",
    "Protocol",
    "ReplaceToken",
    "Score",
    "TextExample",
    "Superpixels",
    "TokenDelete",
    "TokenDrop",
    "Trial",
    "WholeImage",
    "Zero",
    "benchmark",
    "bundled_decoder",
    "bundled_diffusion",
    "bundled_encoder",
    "bundled_vit",
    "explain_func",
    "perturbation_curve",
    "preset",
    "segmentation_scores",
    "words_of",
]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that the command line answers `--help` without loading torch."""
    if name in _HOME:
        return getattr(import_module(f"attnchain_evals.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
