"""The texts of a report from jinja2 templates: Markdown, and one HTML page without scripts that requests nothing.

jinja2 escapes every text on the page. The page is dark or light as the reader's screen is.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib import colormaps
from pandas import DataFrame
from PIL import Image
from torch import Tensor

from attnchain_evals.bench.example_maps import ExampleMaps
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.tables import (
    Report,
    best_of,
    change,
    figure,
    inert,
    markdown,
    percent,
    rank_frame,
    setting_frames,
    tables,
    titled,
)
from attnchain_evals.report.plots import curve_plot, interval_plot

METHOD = (
    "Mean over examples [95 % percentile bootstrap interval, 2,000 resamples]. Differences are paired, example by example;"
    " * marks p < 0.05 of a two-sided paired permutation test (9,999 resamples), corrected by Holm over the methods of each"
    " metric, and for choices over all of its choices. Wins are the share of examples on which a method is better than the"
    " baseline, ties half. Examples of one group, where the data tell groups, are resampled and swapped together."
)
MANY = 40
"""From so many methods on, the page folds tables with a row for each method and leaves out tables with a column for each."""

TEMPLATES = Environment(
    loader=PackageLoader("attnchain_evals.report"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {
    "change": change,
    "figure": figure,
    "inert": inert,
    "fixed": lambda value, places: format(float("nan") if value is None else value, f".{places}f"),
    "percent": percent,
}


def as_markdown(report: Report) -> str:
    """Returns `report.md`."""
    sanity = _sanity_frame(report)
    return TEMPLATES.get_template("report.md").render(
        title=_title(report),
        method=METHOD,
        report=report,
        tables=tables(report),
        settings="\n\n".join(map(markdown, setting_frames(report))),
        sanity="" if sanity is None else markdown(sanity),
    )


def page(result: BenchmarkResult, report: Report, examples: ExampleMaps | None) -> str:
    """Returns `report.html`.

    Args:
        result: the figures behind the curves and the intervals.
        report: of the same result, as `report.json` holds it.
        examples: the images or texts that the page shows; None for none.
    """
    names, many, sanity = list(result.metrics), len(result.methods) >= MANY, _sanity_frame(report)
    titles = [titled(report, name) for name in names]
    shown = None if many else examples
    return TEMPLATES.get_template("report.html").render(
        title=_title(report),
        method=METHOD,
        report=report,
        many=many,
        titles=titles,
        best={name: best_of(report, name) for name in names},
        intervals=[
            (title, interval_plot({method: row[name] for method, row in result.scores.items()}))
            for title, name in zip(titles, names, strict=True)
        ],
        curves=list(_curves(result)),
        settings=[_parts(frame) for frame in setting_frames(report)],
        ranks=_parts(rank_frame(report).rename(columns={"mean rank": "method"})),
        wins=[
            (title, ["", *report["wins"][name]], [[m, *map(percent, row)] for m, row in report["wins"][name].items()])
            for title, name in zip(titles, names, strict=True)
        ],
        sanity=None if sanity is None else _parts(sanity),
        pictures=[] if shown is None or shown.images is None else _pictures(result.methods, shown.images, shown),
        texts=[] if shown is None else [_text(result.methods, words, shown.maps[:, k]) for k, words in enumerate(shown.texts)],
        manifest=json.dumps(result.manifest, indent=1, ensure_ascii=False),
    )


def _title(report: Report) -> str:
    model = report["run"]["configuration"]["model"]["name"]
    return f"{model}: {report['examples']} examples, {len(report['scores'])} methods"


def _parts(frame: DataFrame) -> tuple[list[str], list[list[str]]]:
    return list(frame.columns), frame.to_numpy().tolist()


def _sanity_frame(report: Report) -> DataFrame | None:
    if not report["sanity"]:
        return None
    checks = list(next(iter(report["sanity"].values())))
    rows = [[method, *(_verdict(row[check]) for check in checks)] for method, row in report["sanity"].items()]
    return DataFrame(rows, columns=["method", *checks])


def _verdict(check: dict[str, Any]) -> str:
    if check["passed"] is None:
        return "not applicable"
    return f"{check['value']:.2g} {'passed' if check['passed'] else 'failed'}"


def _curves(result: BenchmarkResult) -> Iterator[tuple[str, str]]:
    """Yields the plot of every metric whose columns are a figure and then the points of a curve."""
    for name, metric in result.metrics.items():
        try:
            fractions = [float(column) for column in metric.columns[1:]]
        except ValueError:
            continue
        if fractions:
            with np.errstate(all="ignore"):
                means = {method: np.nanmean(result.figures(method, name)[:, 1:], 0).tolist() for method in result.methods}
            yield name, curve_plot(fractions, means)


def _pictures(methods: Sequence[str], images: Tensor, shown: ExampleMaps) -> list[list[tuple[str, str]]]:
    """Returns a row of (name, PNG) for each image: the input, its mask, the map of every method."""
    rows = []
    for k, image in enumerate(images):
        row = [("input", _png(image))] + ([] if shown.masks is None else [("mask", _png(shown.masks[k]))])
        heat = ((colormaps["magma"](_share(grid))[..., :3] * 255).astype(np.uint8) for grid in shown.maps[:, k])
        rows.append(row + [(name, _png(pixels)) for name, pixels in zip(methods, heat, strict=True)])
    return rows


def _text(methods: Sequence[str], words: list[str], scores: Tensor) -> tuple[list[str], list[Any]]:
    """Returns the tokens, and for each method the score of each token with its share of the method's own scale."""
    own = scores[:, : len(words)]  # behind a text that is shorter than another there is nothing
    rows = [
        (name, [(f"{score:.4g}", f"{share:.3f}") for score, share in zip(row.tolist(), _share(row).tolist(), strict=True)])
        for name, row in zip(methods, own, strict=True)
    ]
    return words, rows


def _share(scores: Tensor) -> Any:
    """Returns the scores between their least, 0, and their greatest, 1. NaN gives 0."""
    defined = [score for score in scores.flatten().tolist() if isfinite(score)] or [0.0]
    low, high = min(defined), max(defined)
    return ((scores - low) / max(high - low, 1e-12)).nan_to_num().numpy()


def _png(pixels: Any) -> str:
    found = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(found, "PNG")
    return f"data:image/png;base64,{base64.b64encode(found.getvalue()).decode()}"
