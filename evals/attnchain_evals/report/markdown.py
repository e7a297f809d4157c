"""A report as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attnchain_evals.metrics.statistics import Score

Report = Mapping[str, Any]
"""As `report.json` holds it; docs/bench.md has the schema."""


def tables(report: Report) -> str:
    """Scores by group of metrics ("…/mean", "…/blur", the rest), differences from the baseline, ranks."""
    parts = [scores(report, names) for names in groups(report)]
    if report["differences"]:
        parts += [differences(report), ranks(report)]
    return "\n\n".join(parts)


def effect_tables(report: Report) -> str:
    """The effect of each choice, a table for each class of methods."""
    return "\n\n".join(table(head, rows) for head, rows in effects(report, figure, change))


def groups(report: Report) -> list[list[str]]:
    """The metrics by what stands behind the slash of their names."""
    found: dict[str, list[str]] = {}
    for name in metrics(report):
        found.setdefault(name.partition("/")[2], []).append(name)
    return list(found.values())


def metrics(report: Report) -> dict[str, dict[str, Any]]:
    return report["run"]["configuration"]["metrics"]


def titled(report: Report, metric: str) -> str:
    return f"{metric} {'↑' if metrics(report)[metric]['higher_is_better'] else '↓'}"


def figure(found: Report) -> str:
    """A score with its interval."""
    return str(Score(*(float("nan") if found[name] is None else found[name] for name in Score._fields)))


def change(found: Report) -> str:
    """A difference; a star where Holm's p is below 0.05."""
    return figure(found) + ("*" if found["p_holm"] is not None and found["p_holm"] < 0.05 else "")


def scores(report: Report, names: list[str]) -> str:
    """Mean [95 % bootstrap interval]; the best of a column is bold, and examples without a figure are counted."""
    best = {name: best_of(report, name) for name in names}

    def cell(method: str, name: str) -> str:
        score, missing = report["scores"][method][name], report["undefined"][method][name]
        text = f"**{figure(score)}**" if score["value"] == best[name] else figure(score)
        return f"{text} ({missing} undefined)" if missing else text

    rows = [[method, *(cell(method, name) for name in names)] for method in report["scores"]]
    return table(["method", *(titled(report, name) for name in names)], rows)


def differences(report: Report) -> str:
    """Method − baseline [interval], a star where Holm's p is below 0.05, and the share of wins."""
    names = metrics(report)

    def cell(found: Report) -> str:
        return f"{change(found)} wins {'nan' if found['wins'] is None else format(found['wins'], '.0%')}"

    rows = [[method, *(cell(row[name]) for name in names)] for method, row in report["differences"].items()]
    return table([f"minus {report['baseline']}", *(titled(report, name) for name in names)], rows)


def ranks(report: Report) -> str:
    """Mean rank over examples by each metric and over the metrics, best first."""
    names = ("mean", *metrics(report))
    rows = [[method, *(format(row[name] or float("nan"), ".2f") for name in names)] for method, row in by_rank(report)]
    return table(["mean rank", "all", *metrics(report)], rows)


def by_rank(report: Report) -> list[tuple[str, dict[str, float | None]]]:
    return sorted(report["ranks"].items(), key=lambda item: item[1]["mean"] or float("inf"))


def effects(
    report: Report, score: Callable[[Report], str], difference: Callable[[Report], str]
) -> list[tuple[list[str], list[list[str]]]]:
    """(head, rows) of a table for each class of methods: a row for each value of a setting, two columns for each metric."""
    names = [name for name in metrics(report) if report["effects"][name]]
    found: dict[str, list[list[str]]] = {}
    for row in zip(*(report["effects"][name] for name in names), strict=True):
        first = row[0]
        cells = [f"{first['setting']}={written(first['value'])}"]
        for effect in row:
            cells += [score(effect["score"]), "" if effect["difference"] is None else difference(effect["difference"])]
        found.setdefault(first["class"], []).append(cells)
    columns = [column for name in names for column in (titled(report, name), "difference from the first")]
    return [([kind, *columns], rows) for kind, rows in found.items()]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what is in a cell cannot end it."""
    lines = [_line(head), "|---" * len(head) + "|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    escaped = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells]
    return "| " + " | ".join(escaped) + " |"


def best_of(report: Report, metric: str) -> float:
    """The best value of a metric; NaN where there is none."""
    values = [row[metric]["value"] for row in report["scores"].values() if row[metric]["value"] is not None]
    choose = max if metrics(report)[metric]["higher_is_better"] else min
    return choose(values) if values else float("nan")


def written(value: Any) -> str:
    """A value of a setting as a table has it."""
    return value if isinstance(value, str) else {True: "yes", False: "no"}[value] if isinstance(value, bool) else repr(value)
