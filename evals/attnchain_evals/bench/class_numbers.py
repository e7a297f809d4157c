"""The numbers of classes: which number a model gives the class of a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

from attnchain_evals.metrics.curves import CurveMetric
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.perturbation.class_score import clean_logits
from attnchain_evals.probes import LinearProbe
from attnchain_evals.tasks.class_folder import ClassFolder
from attnchain_interp import AttentionError


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Returns the names that a probe or a model of transformers has for its classes, in order; no LABEL_0 and the like."""
    if isinstance(model, LinearProbe):
        return model.classes
    names: Any = getattr(getattr(model, "config", None), "id2label", None) or {}
    found = tuple(str(names[number]) for number in sorted(names))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in found) else found


def names_all(data: Any, names: Sequence[str]) -> bool:
    """Says whether each folder of a `ClassFolder` has the name of one class."""
    counts = Counter(names)
    return isinstance(data, ClassFolder) and all(counts[name] == 1 for name in data.folders)


def check_labels(data: Any, model: nn.Module, metrics: Sequence[ExampleMetric]) -> None:
    """Refuses metrics of labels where the classes of a `ClassFolder` are not known to be those of the model.

    They are known by the model's own names, by WordNet ids, or because there is a folder for each class: of a model without
    names, or by numbers. Names that are numbers are sorted as texts: folder 10 stands before folder 2.
    """
    read = [metric.name for metric in metrics if isinstance(metric, CurveMetric) and metric.protocol.target == "label"]
    names = class_names(model)
    if not read or not isinstance(data, ClassFolder) or names_all(data, names):
        return
    image = data[0].image[None].to(next(model.parameters()).device)
    count, wanted = len(data.classes), clean_logits(model, image, 1).shape[1]
    numbered = all(name.isdecimal() for name in data.classes)
    fix = "Pass images of every class, in folders that sort as the classes do (00, 01 …), or ImageNet's by their WordNet ids."
    if count != wanted:
        cause = f"the data have {count} classes and the model has {wanted}, so the numbers of the classes are not known"
    elif numbered and sorted(data.classes, key=int) != [*data.classes]:
        cause = f"the folders are numbers that sort as texts: {', '.join(data.classes[:3])} …"
    elif names and not data.of_imagenet and not numbered:
        cause = f"not every folder ({data.folders[0]} …) is a class of the model ({names[0]} …)"
        fix = "Give the folders the names that the model has, model.config.id2label, or the numbers of the classes (00, 01 …)."
    else:
        return
    raise AttentionError(f"{read[0]} reads labels, and {cause}.", fix)
