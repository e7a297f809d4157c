"""The needs of methods and metrics, and the things that a model gives: logits, gradients, images, text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum.attr import GradientAttribution, PerturbationAttribution

from attnchain_evals.bench.names import CONTROLS, build_metrics, method_class, method_names, metric_names
from attnchain_interp import AttentionError

if TYPE_CHECKING:
    from attnchain_evals.metrics.example_metric import ExampleMetric
    from attnchain_interp.capture import LoadedModel

Needs = frozenset[str]
ALL: Needs = frozenset({"logits", "gradients", "images", "text"})


def needs_of(spec: str) -> Needs:
    """Returns the needs of the method of a spec. Its base class in Captum says whether it reads gradients or the output.

    >>> sorted(needs_of("TokenRank")), sorted(needs_of("LeaveOneOut")), sorted(needs_of("LogitTokenRank"))
    ([], ['logits'], ['gradients', 'logits'])
    """
    if spec in CONTROLS:
        return frozenset({"images"})
    kind = method_class(spec)
    if issubclass(kind, GradientAttribution):
        return frozenset({"logits", "gradients"})
    return frozenset({"logits"}) if issubclass(kind, PerturbationAttribution) else frozenset()


def needs_of_metric(name: str) -> Needs:
    """Returns the needs of a metric. One that cannot be made without settings is a metric of the output."""
    try:
        return build_metrics([name])[0].needs
    except AttentionError:
        return frozenset({"logits"})


def given_by(loaded: LoadedModel) -> Needs:
    """Returns the things that a model gives. One forward of its sample shows whether it has logits.

    A backbone of timm, which has no classes, returns a tensor of features.
    """
    import torch

    with torch.no_grad():
        output: Any = loaded.model(**loaded.sample)
    found = {"images" if loaded.preprocess is not None else "text"}
    if isinstance(getattr(output, "logits", output), torch.Tensor) and getattr(loaded.model, "num_classes", None) != 0:
        found.add("logits")
    if all(weight.is_floating_point() for weight in loaded.model.parameters()):
        found.add("gradients")
    return frozenset(found)


def given_by_name(model: str) -> Needs:
    """Returns the things that a model of this name may give, without loading it. A folder tells by its `config.json`."""
    if model in ("bundled", "bundled-decoder", "bundled-encoder"):
        return ALL - {"text" if model == "bundled" else "images"}
    config = Path(model.removeprefix("hf:")) / "config.json"
    try:
        saved_as = json.loads(config.read_text("utf-8"))["architectures"][0] if model.startswith("hf:") else ""
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        saved_as = ""
    return ALL - {"logits"} if str(saved_as).endswith("Model") else ALL


def fitting(given: Needs) -> list[str]:
    """Returns the names of the methods whose needs these things meet."""
    return [name for name in method_names() if needs_of(name) <= given]


def fitting_metrics(given: Needs) -> list[str]:
    """Returns the names of the metrics whose needs these things meet."""
    return [name for name in metric_names() if needs_of_metric(name) <= given]


def check_fits(model: str, given: Needs, methods: Iterable[str], metrics: Iterable[ExampleMetric] = ()) -> None:
    """Refuses a method or a metric that needs what the model does not give."""
    for spec in methods:
        if lacks := sorted(needs_of(spec) - given):
            raise AttentionError(
                f"method {spec!r} needs {' and '.join(lacks)}, and {model} gives none.",
                f"Use one of {', '.join(fitting(given))}.",
            )
    for metric in metrics:
        if lacks := sorted(metric.needs - given):
            raise AttentionError(
                f"metric {metric.name!r} needs {' and '.join(lacks)}, and {model} gives none.",
                f"Use one of {', '.join(fitting_metrics(given))}.",
            )
