"""The page of the study: tables with paired intervals, from the scores of each photograph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnchain_evals import boundary_f
from attnchain_evals.bench.tables import table
from attnchain_evals.metrics.segmentation_scores import mean_iou
from attnchain_evals.metrics.statistics import interval
from studies.segments.photographs import KS, SHOWN, states_name

Scores = Mapping[str, Mapping[str, list[float]]]  # photograph → method → scores
OWN = "states, k by the spectrum"
BOUNCE = "one bounce from the class token, balanced"
TOKEN_CUT = {"TokenCut as reported, DINO ViT-S/16": (0.918, 0.712), "the same, with a bilateral solver": (0.934, 0.772)}


def page(regions: Scores, objects: Scores) -> str:
    """Returns docs/segments.md: the text beside this file, with the tables in it."""
    text = (Path(__file__).parent / "page.md").read_text("utf-8")
    return text.format(
        photographs=len(regions),
        regions=region_table(regions),
        objects=object_table(objects),
        of_objects=len(objects),
        scales=scale_table(regions),
        worst=worst(regions),
    )


def columns(scores: Scores, method: str) -> NDArray[np.float64]:
    return np.array([of[method] for of in scores.values()])


def region_table(scores: Scores) -> str:
    """Returns the scores of each method of regions, and the paired difference of its covering from `OWN`."""
    own = columns(scores, OWN)
    rows = []
    left_out = {states_name(k) for k in KS if k not in SHOWN}
    for method in (each for each in next(iter(scores.values())) if each not in left_out):
        found = columns(scores, method)
        both = np.column_stack([found[:, 0], own[:, 0]])
        less = "" if method == OWN else str(interval(lambda means: means[0] - means[1], both))
        cover = str(interval(lambda means: means[0], found))
        others = f"{found[:, 1].mean():.3f}", f"{found[:, 2].mean():.2f}", f"{boundary_f(found[:, 3:].sum(0)):.3f}"
        rows.append([method, cover, less, *others])
    head = ["method", "covering ↑", "− states", "Rand index ↑", "variation of information ↓", "boundary F ↑"]
    return table(head, rows)


def scale_table(scores: Scores) -> str:
    """Returns covering and boundary F at the best fixed k, at the best k of each photograph, and at the k of the spectrum."""
    by_k, own = np.stack([columns(scores, states_name(k)) for k in KS], 1), columns(scores, OWN)
    of_counts = by_k[:, :, 3:]
    each_f = np.array([[boundary_f(counts) for counts in photograph] for photograph in of_counts])
    best, best_f = int(by_k[:, :, 0].mean(0).argmax()), max(range(len(KS)), key=lambda i: boundary_f(of_counts[:, i].sum(0)))
    chosen_f = np.take_along_axis(of_counts, each_f.argmax(1)[:, None, None], 1)[:, 0]
    fixed, every = f"the best fixed k: {KS[best]} for covering, {KS[best_f]} for boundaries", ", ".join(map(str, KS))
    rows = [
        ("the spectrum's k", own[:, 0], own[:, 3:]),
        (fixed, by_k[:, best, 0], of_counts[:, best_f]),
        (f"the best k of each photograph, of {every}", by_k[:, :, 0].max(1), chosen_f),
    ]
    cells = [
        [name, str(interval(lambda mean: mean[0], cover[:, None])), f"{boundary_f(counts.sum(0)):.3f}"]
        for name, cover, counts in rows
    ]
    return table(["regions", "covering ↑", "boundary F ↑"], cells)


def object_table(scores: Scores) -> str:
    """Returns accuracy, mean IoU (pooled pixels), its paired difference from `BOUNCE`, average precision, the object's IoU."""
    own = columns(scores, BOUNCE)
    rows = []
    for method in next(iter(scores.values())):
        found = columns(scores, method)
        both = np.concatenate([found[:, 1:5], own[:, 1:5]], 1)
        less = "" if method == BOUNCE else str(interval(lambda m: mean_iou(m[:4]) - mean_iou(m[4:]), both))
        miou = str(interval(lambda means: mean_iou(means[1:5]), found))
        alone = str(interval(lambda mean: mean[0], found[:, 3:4] / found[:, 4:5]))
        rows.append([method, f"{found[:, 0].mean():.3f}", miou, less, f"{found[:, 5].mean():.3f}", alone])
    rows += [[name, str(accuracy), "", "", "", str(iou)] for name, (accuracy, iou) in TOKEN_CUT.items()]
    return table(["method", "accuracy ↑", "mean IoU ↑", "− one bounce", "average precision ↑", "IoU of the object ↑"], rows)


def worst(scores: Scores, count: int = 10) -> str:
    """Returns the photographs with the least covering, each with its reason in worst.json, if it was looked at."""
    reasons = json.loads((Path(__file__).parent / "worst.json").read_text("utf-8"))
    order = sorted(scores, key=lambda each: scores[each][OWN][0])[:count]
    rows = [[each, f"{scores[each][OWN][0]:.2f}", reasons.get(each, "")] for each in order]
    return table(["photograph", "covering", "what is wrong"], rows)
