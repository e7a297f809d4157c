"""The tables of a report as data frames of text, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from pandas import DataFrame
from tabulate import DataRow, TableFormat

from attnchain_evals.metrics.statistics import Score

Report = Mapping[str, Any]
"""The content of `report.json`. docs/bench.md has the schema."""

_ROW = DataRow("| ", " | ", " |")
_NOT_PADDED = TableFormat(None, lambda widths, _: "|---" * len(widths) + "|", None, None, _ROW, _ROW, 0, None)
"""One figure that changes then changes one line of a page."""
_ACTIVE = {
    "\\": "\\\\",
    "&": "&amp;",
    "<": "&lt;",
    "|": "\\|",
    "](": "]\\(",
    "][": "]\\[",
    "://": "&#58;//",
    "www.": "www&#46;",
    "mailto:": "mailto&#58;",
    "@": "&#64;",
}


def tables(report: Report) -> str:
    """Returns scores by group of metrics ("…/mean", "…/blur", the rest), differences from the baseline, and ranks."""
    frames = [score_frame(report, names) for names in groups(report)]
    if report["differences"]:
        frames += [difference_frame(report), rank_frame(report)]
    return "\n\n".join(map(markdown, frames))


def groups(report: Report) -> list[list[str]]:
    """Returns the names of the metrics, grouped by the part behind the slash."""
    found: dict[str, list[str]] = {}
    for name in metrics(report):
        found.setdefault(name.partition("/")[2], []).append(name)
    return list(found.values())


def metrics(report: Report) -> dict[str, dict[str, Any]]:
    """Returns metric → its columns, version and direction."""
    return report["run"]["configuration"]["metrics"]


def titled(report: Report, metric: str) -> str:
    """Returns the metric's name with an arrow towards better values."""
    return f"{metric} {'↑' if metrics(report)[metric]['higher_is_better'] else '↓'}"


def figure(found: Report) -> str:
    """Returns a score with its interval as text."""
    return str(Score(*(float("nan") if found[name] is None else found[name] for name in Score._fields)))


def change(found: Report) -> str:
    """Returns a difference as text. A star marks Holm's p below 0.05."""
    return figure(found) + ("*" if found["p_holm"] is not None and found["p_holm"] < 0.05 else "")


def percent(share: float | None) -> str:
    return "nan" if share is None else f"{share:.0%}"


def score_frame(report: Report, names: Sequence[str], bold: Callable[[str], str] = "**{}**".format) -> DataFrame:
    """Returns means with their intervals. The best of a column is bold. Undefined figures are counted."""
    best = {name: best_of(report, name) for name in names}

    def cell(method: str, name: str) -> str:
        score, missing = report["scores"][method][name], report["undefined"][method][name]
        text = bold(figure(score)) if score["value"] == best[name] else figure(score)
        return f"{text} ({missing} undefined)" if missing else text

    rows = [[method, *(cell(method, name) for name in names)] for method in report["scores"]]
    return DataFrame(rows, columns=["method", *(titled(report, name) for name in names)])


def difference_frame(report: Report) -> DataFrame:
    """Returns method − baseline with the interval, a star where Holm's p is below 0.05, and the share of wins."""
    names = metrics(report)
    rows = [
        [method, *(f"{change(row[name])} wins {percent(row[name]['wins'])}" for name in names)]
        for method, row in report["differences"].items()
    ]
    return DataFrame(rows, columns=[f"minus {report['baseline']}", *(titled(report, name) for name in names)])


def rank_frame(report: Report) -> DataFrame:
    """Returns mean ranks over examples, for all metrics together and for each. The best method comes first."""
    names = ("mean", *metrics(report))
    order = sorted(report["ranks"].items(), key=lambda item: item[1]["mean"] or float("inf"))
    rows = [[method, *(format(row[name] or float("nan"), ".2f") for name in names)] for method, row in order]
    return DataFrame(rows, columns=["mean rank", "all", *metrics(report)])


def setting_frames(report: Report) -> list[DataFrame]:
    """Returns a frame for each class of methods: a row for each value of a setting, two columns for each metric."""
    names = [name for name in metrics(report) if report["effects"][name]]
    found: dict[str, list[list[str]]] = {}
    for row in zip(*(report["effects"][name] for name in names), strict=True):
        cells = [f"{row[0]['setting']}={written(row[0]['value'])}"]
        for effect in row:
            cells += [figure(effect["score"]), "" if effect["difference"] is None else change(effect["difference"])]
        found.setdefault(row[0]["class"], []).append(cells)
    columns = [column for name in names for column in (titled(report, name), "difference from the first")]
    return [DataFrame(rows, columns=[kind, *columns]) for kind, rows in found.items()]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of text."""
    return markdown(DataFrame(rows, columns=list(head)))


def markdown(frame: DataFrame) -> str:
    """Returns the frame in Markdown. The text of a cell cannot end the cell."""
    plain = frame.map(inert).set_axis([inert(name) for name in frame.columns], axis=1)
    return plain.to_markdown(index=False, tablefmt=_NOT_PADDED, stralign=None, disable_numparse=True)


def score_html(report: Report) -> str:
    """Returns the scores as an HTML table for a notebook."""
    frame = score_frame(report, list(metrics(report)), "<b>{}</b>".format)
    frame["method"] = frame["method"].map(escape)
    frame.columns = [escape(name) for name in frame.columns]
    return frame.to_html(index=False, escape=False, border=0)


def best_of(report: Report, metric: str) -> float:
    """Returns the best value of a metric, NaN where all are undefined."""
    values = [row[metric]["value"] for row in report["scores"].values() if row[metric]["value"] is not None]
    choose = max if metrics(report)[metric]["higher_is_better"] else min
    return choose(values) if values else float("nan")


def written(value: Any) -> str:
    """Returns the value of a setting as text."""
    return value if isinstance(value, str) else {True: "yes", False: "no"}[value] if isinstance(value, bool) else repr(value)


def inert(text: str) -> str:
    """Returns text that stays text in Markdown: no element, link, image, address or mention, no end of a line or a cell.

    >>> print(inert("![x](http://y) <b>|"))
    ![x]\\(http&#58;//y) &lt;b>\\|
    """
    shown = "".join(character if character.isprintable() else " " for character in text)
    for active, plain in _ACTIVE.items():
        shown = shown.replace(active, plain)
    return shown
