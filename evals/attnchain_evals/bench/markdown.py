"""A result as Markdown tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnchain_evals.bench.results import BenchmarkResult


def tables(result: BenchmarkResult) -> str:
    """Scores by group of metrics ("…/mean", "…/blur", the rest), differences from the baseline, ranks."""
    parts = [scores(result, names) for names in groups(result)]
    if len(result.methods) > 1:
        parts += [differences(result), ranks(result)]
    return "\n\n".join(parts)


def groups(result: BenchmarkResult) -> list[list[str]]:
    """The metrics by what stands behind the slash of their names."""
    found: dict[str, list[str]] = {}
    for name in result.metrics:
        found.setdefault(name.partition("/")[2], []).append(name)
    return list(found.values())


def titled(result: BenchmarkResult, metric: str) -> str:
    return f"{metric} {'↑' if result.metrics[metric].higher_is_better else '↓'}"


def scores(result: BenchmarkResult, metrics: list[str]) -> str:
    """Mean [95 % bootstrap interval]; the best of a column is bold, and examples without a figure are counted."""
    best = {name: _best(result, name) for name in metrics}

    def cell(method: str, name: str) -> str:
        score, missing = result.scores[method][name], result.undefined[method][name]
        text = f"**{score}**" if score.value == best[name] else str(score)
        return f"{text} ({missing} undefined)" if missing else text

    rows = [[method, *(cell(method, name) for name in metrics)] for method in result.methods]
    return table(["method", *(titled(result, name) for name in metrics)], rows)


def differences(result: BenchmarkResult) -> str:
    """Method − baseline [interval], a star where Holm's p is below 0.05, and the share of wins."""
    head = [f"minus {result.baseline}", *(titled(result, name) for name in result.metrics)]

    def cell(row: Any) -> str:
        return f"{row.score}{'*' if row.corrected < 0.05 else ''} wins {row.wins:.0%}"

    rows = [[method, *(cell(row[name]) for name in result.metrics)] for method, row in result.differences.items()]
    return table(head, rows)


def ranks(result: BenchmarkResult) -> str:
    """Mean rank over examples by each metric and over the metrics, best first."""
    ordered = sorted(result.ranks.items(), key=lambda item: item[1]["mean"])
    rows = [[method, *(f"{row[name]:.2f}" for name in ("mean", *result.metrics))] for method, row in ordered]
    return table(["mean rank", "all", *result.metrics], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what is in a cell cannot end it."""
    lines = [_line(head), "|---" * len(head) + "|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    escaped = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells]
    return "| " + " | ".join(escaped) + " |"


def _best(result: BenchmarkResult, metric: str) -> float:
    values = [result.scores[method][metric].value for method in result.methods]
    defined = [value for value in values if value == value]
    choose = max if result.metrics[metric].higher_is_better else min
    return choose(defined) if defined else float("nan")
