"""Evidence for attributions: perturbation curves, localisation, a benchmark, and the bundled task and model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnchain_evals.bench.data import ImageFolder
    from attnchain_evals.bench.results import BenchmarkResult
    from attnchain_evals.benchmarking import benchmark
    from attnchain_evals.bundled import bundled_vit
    from attnchain_evals.cluttered_digits import ClutteredDigits, Example
    from attnchain_evals.controls import InputMagnitude
    from attnchain_evals.explanation import explain_func
    from attnchain_evals.occlusion import Blur, MeanColour, Occlusion
    from attnchain_evals.perturbation import PerturbationCurve, perturbation_curve
    from attnchain_evals.segmentation import segmentation_scores
    from attnchain_evals.statistics import Score

_HOME = {
    "BenchmarkResult": "bench.results",
    "Blur": "occlusion",
    "ClutteredDigits": "cluttered_digits",
    "Example": "cluttered_digits",
    "ImageFolder": "bench.data",
    "InputMagnitude": "controls",
    "MeanColour": "occlusion",
    "Occlusion": "occlusion",
    "PerturbationCurve": "perturbation",
    "Score": "statistics",
    "benchmark": "benchmarking",
    "bundled_vit": "bundled",
    "explain_func": "explanation",
    "perturbation_curve": "perturbation",
    "segmentation_scores": "segmentation",
}

__all__ = [
    "BenchmarkResult",
    "Blur",
    "ClutteredDigits",
    "Example",
    "ImageFolder",
    "InputMagnitude",
    "MeanColour",
    "Occlusion",
    "PerturbationCurve",
    "Score",
    "benchmark",
    "bundled_vit",
    "explain_func",
    "perturbation_curve",
    "segmentation_scores",
]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that the command line answers `--help` without loading torch."""
    if name in _HOME:
        return getattr(import_module(f"attnchain_evals.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
