"""The effect of each setting of a method, averaged over all other settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.bench.results import NAN, BenchmarkResult
from attnchain_evals.metrics.statistics import Difference, Score, holm, interval, permutation_p

CLASS_SPECIFIC = "class-specific"


class Effect(NamedTuple):
    """The effect of one value of a setting.

    Attributes:
        kind: the class of the methods.
        setting: its name; "class-specific" for the class against the one that is called Gradient before it.
        value: as JSON has it.
        score: the mean over all variants that have the value, example by example.
        difference: from the first value; None of that itself. p is corrected over all effects by the metric.
    """

    kind: str
    setting: str
    value: str
    score: Score
    difference: Difference | None


def setting_effects(result: BenchmarkResult, metric: str) -> list[Effect]:
    """Returns the effects of settings in which variants of a class differ, and of the class-specific sister of a class."""
    values, sign = result.per_example(metric), 1 if result.metrics[metric].higher_is_better else -1
    found: list[Effect] = []
    for kind, setting, groups in _comparisons(result.manifest["configuration"]["methods"], result.methods):
        first, *others = ((value, values[rows].mean(0)) for value, rows in groups.items())
        found.append(Effect(kind, setting, first[0], _mean(first[1]), None))
        found += [Effect(kind, setting, value, _mean(own), _against(own, first[1], sign)) for value, own in others]
    corrected = iter(holm([effect.difference.p for effect in found if effect.difference is not None]))
    return [
        effect._replace(difference=effect.difference and effect.difference._replace(corrected=next(corrected)))
        for effect in found
    ]


def _comparisons(settings: dict[str, dict[str, Any]], methods: list[str]) -> Iterator[tuple[str, str, dict[str, list[int]]]]:
    """Yields (class, setting, value → the numbers of the methods with the value), for at least two values."""
    kinds: dict[str, list[int]] = {}
    for k, method in enumerate(methods):
        kinds.setdefault(settings[method]["class"].rsplit(".", 1)[-1], []).append(k)
    for kind, own in kinds.items():
        for name in [name for name in settings[methods[own[0]]] if name != "class"]:
            groups: dict[str, list[int]] = {}
            for k in own:
                groups.setdefault(json.dumps(settings[methods[k]].get(name)), []).append(k)
            if len(groups) > 1:
                yield kind, name, groups
        if sisters := kinds.get(f"Gradient{kind}"):
            pairs = _alike([settings[methods[k]] for k in own], [settings[methods[k]] for k in sisters])
            if pairs:
                yield kind, CLASS_SPECIFIC, {"false": [own[i] for i, _ in pairs], "true": [sisters[j] for _, j in pairs]}


def _alike(plain: list[dict[str, Any]], sisters: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Returns the pairs of variants with equal shared settings, and with the first value of settings of one class alone."""
    shared = (plain[0].keys() & sisters[0].keys()) - {"class"}
    alone = plain[0].keys() - sisters[0].keys()
    return [
        (i, j)
        for i, one in enumerate(plain)
        for j, other in enumerate(sisters)
        if all(one[name] == other[name] for name in shared) and all(one[name] == plain[0][name] for name in alone)
    ]


def _against(own: NDArray[np.float64], first: NDArray[np.float64], sign: int) -> Difference:
    good = ~(np.isnan(own) | np.isnan(first))
    if good.sum() < 2:
        return Difference(NAN, float("nan"), float("nan"), float("nan"))
    gap = sign * (own[good] - first[good]).round(9)
    p = permutation_p(lambda means: means[0], own[good][:, None], first[good][:, None])
    return Difference(_mean(own - first), p, p, float(np.mean((gap > 0) + (gap == 0) / 2)))


def _mean(values: NDArray[np.float64]) -> Score:
    values = values[~np.isnan(values)]
    return interval(lambda means: means[0], values[:, None]) if len(values) > 1 else NAN
