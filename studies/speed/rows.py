"""Rows of the performance table: what is measured, the bar it is held against, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, final

Device = Literal["cpu", "cuda"]
BROKE: Final = "broke: "  # how the reason of a row that raised begins


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised by a row that cannot be measured here; the message says why."""


@final
@dataclass(frozen=True)
class Bar:
    """A limit that a figure must keep to: at most `limit`, or at least."""

    limit: float
    sense: Literal["≤", "≥"] = "≤"

    def met(self, value: float) -> bool:
        """False also for NaN."""
        return value <= self.limit if self.sense == "≤" else value >= self.limit


@final
@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what it is.
        value: the number.
        unit: "×", "s", "MB" (10⁶ bytes), "MiB", or nothing.
        bar: None where the figure is for information.
        note: the two sides of a ratio, and the like.
    """

    name: str
    value: float
    unit: str = ""
    bar: Bar | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return "for information"
        return "pass" if self.bar.met(self.value) else "falls short"

    @property
    def measured(self) -> str:
        return _quantity(self.value, self.unit) + (f" ({self.note})" if self.note else "")

    @property
    def required(self) -> str:
        return f"{self.bar.sense} {_quantity(self.bar.limit, self.unit)}" if self.bar else ""


def _quantity(value: float, unit: str) -> str:
    digits = f"{value:.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.3g}"
    return digits + (unit if unit in ("", "×") else f" {unit}")


@final
@dataclass(frozen=True)
class Row:
    """Something to measure.

    Attributes:
        name: as `--only` takes it.
        title: what is measured against what.
        measure: does it; may raise `Skipped`.
        device: what it needs. A row for "cuda" is skipped where there is no CUDA device.
    """

    name: str
    title: str
    measure: Callable[[], list[Figure]]
    device: Device = "cpu"


@final
@dataclass(frozen=True)
class Result:
    """The result of a row.

    Attributes:
        name, title, device: of the row.
        figures: empty where the row was not measured.
        reason: why it was not measured: it was skipped, or it broke.
        machine: where, and with which versions.
        seconds: how long the row took in all.
    """

    name: str
    title: str
    device: Device
    figures: tuple[Figure, ...]
    reason: str
    machine: str
    seconds: float

    @property
    def falls_short(self) -> bool:
        return self.reason.startswith(BROKE) or any(figure.verdict == "falls short" for figure in self.figures)

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """Figure, measured, bar, verdict: one line for each figure."""
        if self.reason:
            return [("", "", "", self.reason)]
        return [(figure.name, figure.measured, figure.required, figure.verdict) for figure in self.figures]

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Result:
        """The result of what `dataclasses.asdict` made of one."""
        figures = (Figure(**{**figure, "bar": Bar(**figure["bar"]) if figure["bar"] else None}) for figure in found["figures"])
        return cls(**{**found, "figures": tuple(figures)})


def table(results: Iterable[Result]) -> str:
    """The Markdown table, and under it the machines the figures are from."""
    lines = ["| row | figure | measured | bar | verdict |", "|---|---|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for result in results:
        for cells in result.lines:
            *rest, verdict = (cell.replace("|", "\\|") for cell in cells)
            shown = f"**{verdict}**" if verdict == "falls short" or verdict.startswith(BROKE) else verdict
            lines.append("| " + " | ".join([f"`{result.name}`", *rest, shown]) + " |")
        if not result.reason:
            machines.setdefault(result.machine, []).append(f"`{result.name}`")
    lines += ["", *(f"Measured on {machine}: {', '.join(names)}." for machine, names in machines.items())]
    return "\n".join(lines).rstrip() + "\n"
