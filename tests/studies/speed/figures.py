"""Figures and a result that tests share."""

from __future__ import annotations

from studies.speed.rows import Bar, Figure, Result

FIGURES = (
    Figure("speed", 12.5, "×", Bar(10, "≥"), "0.1 s against 1.25 s"),
    Figure("peak", 134.2, "MB", Bar(128)),
    Figure("error", 3.14159e-6),
)
RESULT = Result("one", "a title", "cpu", FIGURES, "", "2 CPU threads", 1.0)
