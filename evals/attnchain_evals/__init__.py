"""Evidence for attributions: perturbation curves, localisation, a benchmark, and the bundled tasks and models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnchain_evals.bench.data import ImageFolder
    from attnchain_evals.bench.results import BenchmarkResult
    from attnchain_evals.benchmarking import benchmark
    from attnchain_evals.bundled import bundled_vit
    from attnchain_evals.bundled.diffusion_model import bundled_diffusion
    from attnchain_evals.bundled.text_models import bundled_decoder, bundled_encoder
    from attnchain_evals.cluttered_digits import ClutteredDigits, Example
    from attnchain_evals.controls import InputMagnitude
    from attnchain_evals.erasure import TokenErasure, evidence_scores
    from attnchain_evals.explanation import explain_func
    from attnchain_evals.features import Superpixels
    from attnchain_evals.key_values import KeyValues, TextExample
    from attnchain_evals.metrics import PRESETS, ExampleMetric, Protocol, Trial, preset
    from attnchain_evals.occlusion import (
        AttentionMask,
        Black,
        Blur,
        KernelBlur,
        MaskToken,
        MeanColour,
        NoisyLinear,
        Occlusion,
        TokenDrop,
        Zero,
    )
    from attnchain_evals.perturbation import Perturbation, PerturbationCurve, perturbation_curve
    from attnchain_evals.segmentation import segmentation_scores
    from attnchain_evals.statistics import Score

_HOME = {
    "AttentionMask": "occlusion",
    "BenchmarkResult": "bench.results",
    "Black": "occlusion",
    "Blur": "occlusion",
    "ClutteredDigits": "cluttered_digits",
    "Example": "cluttered_digits",
    "ExampleMetric": "metrics",
    "ImageFolder": "bench.data",
    "InputMagnitude": "controls",
    "KeyValues": "key_values",
    "KernelBlur": "occlusion",
    "MaskToken": "occlusion",
    "MeanColour": "occlusion",
    "NoisyLinear": "occlusion",
    "Occlusion": "occlusion",
    "PRESETS": "metrics",
    "Perturbation": "perturbation",
    "PerturbationCurve": "perturbation",
    "Protocol": "metrics",
    "Score": "statistics",
    "TextExample": "key_values",
    "TokenErasure": "erasure",
    "Superpixels": "features",
    "TokenDrop": "occlusion",
    "Trial": "metrics",
    "Zero": "occlusion",
    "benchmark": "benchmarking",
    "bundled_decoder": "bundled.text_models",
    "bundled_diffusion": "bundled.diffusion_model",
    "bundled_encoder": "bundled.text_models",
    "bundled_vit": "bundled",
    "evidence_scores": "erasure",
    "explain_func": "explanation",
    "perturbation_curve": "perturbation",
    "preset": "metrics",
    "segmentation_scores": "segmentation",
}

__all__ = [
    "AttentionMask",
    "BenchmarkResult",
    "Black",
    "Blur",
    "ClutteredDigits",
    "Example",
    "ExampleMetric",
    "ImageFolder",
    "InputMagnitude",
    "KeyValues",
    "KernelBlur",
    "MaskToken",
    "MeanColour",
    "NoisyLinear",
    "Occlusion",
    "PRESETS",
    "Perturbation",
    "PerturbationCurve",
    "Protocol",
    "Score",
    "TextExample",
    "TokenErasure",
    "Superpixels",
    "TokenDrop",
    "Trial",
    "Zero",
    "benchmark",
    "bundled_decoder",
    "bundled_diffusion",
    "bundled_encoder",
    "bundled_vit",
    "evidence_scores",
    "explain_func",
    "perturbation_curve",
    "preset",
    "segmentation_scores",
]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that the command line answers `--help` without loading torch."""
    if name in _HOME:
        return getattr(import_module(f"attnchain_evals.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
