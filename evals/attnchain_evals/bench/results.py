"""The result of a run: its table, and the statistics of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from attnchain_evals.bench.comparison import compared, each_alone
from attnchain_evals.bench.manifest import read_manifest
from attnchain_evals.bench.row_files import read_parts
from attnchain_evals.bench.tables import score_html, tables
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.metrics.statistics import Difference, Groups, Score, holm, rounded, score_of, win_share
from attnchain_interp import AttentionError
from attnchain_interp.reprs import counted


@final
class BenchmarkResult:
    """The figures of methods × metrics on every example, with scores, differences, ranks and wins.

    An example counts once every method and metric has a row for it. Scores leave out figures that are NaN; `undefined` counts
    them.

    Args:
        manifest: of the run, as `run.json` holds it.
        rows: as `read_parts` gives them.
        metrics: those of the manifest, which know how columns make a score.
        baseline: the method that others are compared with; "Rollout" where it is among them, else the first.

    Raises:
        AttentionError: a metric or baseline that is not in the run, a metric of other columns, or no complete example.
    """

    def __init__(
        self, manifest: dict[str, Any], rows: pd.DataFrame, metrics: Sequence[ExampleMetric], baseline: str | None = None
    ) -> None:
        self.manifest = manifest
        configuration = manifest["configuration"]
        self.methods = list(configuration["methods"])
        known = {metric.name: metric for metric in metrics}
        lacking = [name for name in configuration["metrics"] if name not in known]
        if lacking:
            raise AttentionError(f"the run holds the metrics {', '.join(lacking)}, too.", "Pass them in metrics=[…].")
        self.metrics = {name: known[name] for name in configuration["metrics"]}
        for name, metric in self.metrics.items():
            if list(metric.columns) != configuration["metrics"][name]["columns"]:
                raise AttentionError(
                    f"the metric {name!r} has other columns than in the run, whose settings of it were others.",
                    "Read the run in Python with its own metrics: BenchmarkResult.read(folder, metrics).",
                )
        if baseline is not None and baseline not in self.methods:
            raise AttentionError(f"baseline={baseline!r} is not among the methods.", f"Use one of {', '.join(self.methods)}.")
        self.baseline = baseline or ("Rollout" if "Rollout" in self.methods else self.methods[0])
        known = [(name, column) for name, metric in self.metrics.items() for column in metric.columns]
        odd = {*rows["method"]} - {*self.methods} or {*zip(rows["metric"], rows["column"], strict=True)} - {*known}
        if odd:
            raise AttentionError(f"the table has rows of {odd.pop()!r}, which is not in the run.", "Restore the part files.")
        self._rows = self._complete(rows)
        self.examples: list[int] = sorted(self._rows["example"].unique())
        if not self.examples:
            raise AttentionError("no example has all its rows yet.", "Run the same command again. It continues the run.")

    @classmethod
    def read(cls, folder: str | Path, metrics: Sequence[ExampleMetric], baseline: str | None = None) -> BenchmarkResult:
        """Reads the result of a folder, finished or not.

        Raises:
            AttentionError: there is no run; or as `BenchmarkResult`.
        """
        manifest = read_manifest(Path(folder))
        return cls(manifest, read_parts(Path(folder), manifest["key"]), metrics, baseline)

    def __repr__(self) -> str:
        table = f"{counted(len(self.methods), 'method')} × {counted(len(self.metrics), 'metric')}"
        size = f"{table} on {counted(len(self.examples), 'example')}"
        unfinished = "" if self.finished else f" of {self.manifest['examples']}, unfinished"
        return f"BenchmarkResult({size}{unfinished}; baseline {self.baseline!r})"

    def _repr_html_(self) -> str:
        """Shows the scores as a table in a notebook. The best score of each metric is bold."""
        return score_html(self._scored())

    def table(self) -> pd.DataFrame:
        """Returns one row for each example × method × metric × column, in that order."""
        return self._rows.copy()

    @property
    def finished(self) -> bool:
        return len(self.examples) == self.manifest["examples"]

    def figures(self, method: str, metric: str) -> NDArray[np.float64]:
        """Returns the measured figures (example, column)."""
        return self._arrays[metric][self.methods.index(method)]

    def per_example(self, metric: str) -> NDArray[np.float64]:
        """Returns the score of each example by itself (method, example)."""
        return each_alone(self.metrics[metric], self._arrays[metric])

    @property
    def groups(self) -> Groups | None:
        """(example,) the number of each example's group: the passage of a question. None if the data know no groups."""
        known = self.manifest.get("groups")
        return None if known is None else np.array(known)[self.examples]

    @cached_property
    def scores(self) -> dict[str, dict[str, Score]]:
        """Method → metric → score with its interval."""
        return {
            method: {
                name: score_of(metric.summary, self.figures(method, name), self.groups)
                for name, metric in self.metrics.items()
            }
            for method in self.methods
        }

    @cached_property
    def undefined(self) -> dict[str, dict[str, int]]:
        """Method → metric → how many examples have no figure."""
        return {
            method: {name: int(np.isnan(self.figures(method, name)).any(1).sum()) for name in self.metrics}
            for method in self.methods
        }

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Method → metric → the paired difference from the baseline, for every method but that."""
        found: dict[str, dict[str, Difference]] = {method: {} for method in self.methods if method != self.baseline}
        for name, metric in self.metrics.items():
            base, wins = self.figures(self.baseline, name), self.wins(name)
            scores, ps = [], []
            for method in found:
                score, p = compared(metric, self.figures(method, name), base, self.groups)
                scores.append(score)
                ps.append(p)
            for method, score, p, corrected in zip(found, scores, ps, holm(ps), strict=True):
                win = wins[self.methods.index(method), self.methods.index(self.baseline)]
                found[method][name] = Difference(score, p, corrected, float(win))
        return found

    def wins(self, metric: str) -> NDArray[np.float64]:
        """Returns the share of examples on which one method is better than another (method, method). Ties count half.

        The examples of a pair are those on which both have a figure. NaN where there is none.
        """
        values = self._ordered(metric)
        return np.array([[win_share(own, other) for other in values] for own in values])

    @cached_property
    def ranks(self) -> dict[str, dict[str, float]]:
        """Method → metric → its mean rank over the examples (1 is best, ties share); and "mean" over its metrics.

        A method without any figure has no rank (NaN). The examples are those on which all other methods have a figure.
        """
        table = np.full((len(self.metrics), len(self.methods)), np.nan)
        for row, name in zip(table, self.metrics, strict=True):
            values = self._ordered(name)
            ranked = ~np.isnan(values).all(1)
            values = values[ranked][:, ~np.isnan(values[ranked]).any(0)]
            if values.size:
                row[ranked] = rankdata(-values, axis=0).mean(1)
        means = [float(column[~np.isnan(column)].mean()) if not np.isnan(column).all() else np.nan for column in table.T]
        return {
            method: {**dict(zip(self.metrics, column, strict=True)), "mean": mean}
            for method, column, mean in zip(self.methods, table.T.tolist(), means, strict=True)
        }

    def markdown(self) -> str:
        """Returns scores, differences and ranks as Markdown tables."""
        return tables(self.summary())

    def summary(self) -> dict[str, Any]:
        """Returns scores, differences, ranks and wins as plain data; NaN is None. docs/bench.md has the schema."""
        return self._scored() | without_nan(
            {
                "examples": len(self.examples),
                "baseline": self.baseline,
                "differences": {m: {n: plain(found) for n, found in row.items()} for m, row in self.differences.items()},
                "ranks": self.ranks,
                "wins": {name: dict(zip(self.methods, self.wins(name).tolist(), strict=True)) for name in self.metrics},
            }
        )

    def _scored(self) -> dict[str, Any]:
        """Returns the part of `summary` that needs no test of differences."""
        scores = {m: {n: score._asdict() for n, score in row.items()} for m, row in self.scores.items()}
        return without_nan({"run": self.manifest, "scores": scores, "undefined": self.undefined})

    @cached_property
    def _arrays(self) -> dict[str, NDArray[np.float64]]:
        """Metric → (method, example, column)."""
        shape = len(self.methods), len(self.examples)
        ordered = self._rows["value"].to_numpy().reshape(shape[1], shape[0], -1)
        widths = np.cumsum([len(metric.columns) for metric in self.metrics.values()])[:-1]
        parts = np.split(ordered, widths, axis=2)
        return {name: np.moveaxis(part, 1, 0) for name, part in zip(self.metrics, parts, strict=True)}

    def _complete(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows of complete examples, in order."""
        columns = [(name, column) for name, metric in self.metrics.items() for column in metric.columns]
        place = {column: k for k, column in enumerate(columns)}
        rank = {name: k for k, name in enumerate(self.methods)}
        counts = Counter(rows["example"])
        complete = [counts[example] == len(columns) * len(rank) for example in rows["example"]]
        keys = (
            [place[pair] for pair in zip(rows["metric"], rows["column"], strict=True)],
            [rank[name] for name in rows["method"]],
            rows["example"].to_numpy(),
        )
        order = np.lexsort(np.array(keys))
        return rows.iloc[order[np.array(complete, bool)[order]]].reset_index(drop=True)

    def _ordered(self, metric: str) -> NDArray[np.float64]:
        """Returns `per_example`, rounded, higher is better (method, example)."""
        return rounded(self.per_example(metric)) * (1 if self.metrics[metric].higher_is_better else -1)


def plain(found: Difference) -> dict[str, float]:
    """Returns a difference as plain data."""
    return {**found.score._asdict(), "p": found.p, "p_holm": found.corrected, "wins": found.wins}


def without_nan(value: Any) -> Any:
    """Returns nested dictionaries and lists with None in the place of NaN."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and value != value else value
