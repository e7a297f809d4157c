"""The page of the study: tables with paired intervals, from the scores of each photograph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnchain_evals.metrics.segmentation_scores import mean_iou
from attnchain_evals.metrics.statistics import interval
from studies.segments.photographs import KS

Scores = Mapping[str, Mapping[str, list[float]]]  # photograph → method → scores
OWN = "states, k by the spectrum"
BOUNCE = "one bounce from the class token, balanced"


def page(regions: Scores, objects: Scores) -> str:
    """Returns docs/segments.md: the text beside this file, with the tables in it."""
    text = (Path(__file__).parent / "page.md").read_text("utf-8")
    return text.format(
        photographs=len(regions),
        regions=region_table(regions),
        objects=object_table(objects),
        of_objects=len(objects),
        scales=scale_table(regions),
        worst=", ".join(worst(regions)),
    )


def columns(scores: Scores, method: str) -> NDArray[np.float64]:
    return np.array([of[method] for of in scores.values()])


def region_table(scores: Scores) -> str:
    """Returns the scores of each method of regions, and the paired difference of its covering from `OWN`."""
    own = columns(scores, OWN)
    rows = ["| method | covering ↑ | − states | Rand index ↑ | variation of information ↓ |", "|---|---|---|---|---|"]
    for method in next(iter(scores.values())):
        found = columns(scores, method)
        both = np.column_stack([found[:, 0], own[:, 0]])
        less = "" if method == OWN else str(interval(lambda means: means[0] - means[1], both))
        cover = interval(lambda means: means[0], found)
        rows.append(f"| {method} | {cover} | {less} | {found[:, 1].mean():.3f} | {found[:, 2].mean():.2f} |")
    return "\n".join(rows)


def scale_table(scores: Scores) -> str:
    """Returns the covering at the best fixed k, at the best k of each photograph, and at the k of the spectrum."""
    by_k = np.stack([columns(scores, f"states, k = {k}")[:, 0] for k in KS], 1)
    best = int(by_k.mean(0).argmax())
    means = [("the spectrum's k", columns(scores, OWN)[:, 0]), (f"k = {KS[best]}, the best of {KS}", by_k[:, best])]
    means.append((f"the best of {KS} for each photograph", by_k.max(1)))
    rows = [f"| {name} | {interval(lambda mean: mean[0], each[:, None])} |" for name, each in means]
    return "\n".join(["| regions | covering |", "|---|---|", *rows])


def object_table(scores: Scores) -> str:
    """Returns accuracy, mean IoU (pooled pixels) and average precision, and the paired difference of the IoU from `BOUNCE`."""
    own = columns(scores, BOUNCE)
    rows = ["| method | accuracy ↑ | mean IoU ↑ | − one bounce | average precision ↑ |", "|---|---|---|---|---|"]
    for method in next(iter(scores.values())):
        found = columns(scores, method)
        both = np.concatenate([found[:, 1:5], own[:, 1:5]], 1)
        less = "" if method == BOUNCE else str(interval(lambda m: mean_iou(m[:4]) - mean_iou(m[4:]), both))
        miou = interval(lambda means: mean_iou(means[1:5]), found)
        rows.append(f"| {method} | {found[:, 0].mean():.3f} | {miou} | {less} | {found[:, 5].mean():.3f} |")
    return "\n".join(rows)


def worst(scores: Scores, count: int = 10) -> list[str]:
    """Returns the photographs with the least covering, the least first, each with it."""
    order = sorted(scores, key=lambda each: scores[each][OWN][0])[:count]
    return [f"{each} ({scores[each][OWN][0]:.2f})" for each in order]
