"""The effect of each setting, by hand."""

from __future__ import annotations

from attnchain_evals.metrics.statistics import holm
from attnchain_evals.report.setting_effects import setting_effects

from ..bench_tasks import made


def test_effects_of_a_choice() -> None:
    settings = {f"m{s}{h}": {"class": "x.Method", "steps": s, "heads": h, "fixed": 1} for s in (1, 2) for h in ("p", "q")}
    result = made({name: [float(k), float(k + 1), 0.0, 1.0] for k, name in enumerate(settings)}, settings)
    found = {
        (e.setting, e.value): (e.score.value, e.difference and e.difference.score.value)
        for e in setting_effects(result, "centre")
    }
    assert found == {
        ("steps", "1"): (0.75, None),
        ("steps", "2"): (1.75, 1),
        ("heads", '"p"'): (1, None),
        ("heads", '"q"'): (1.5, 0.5),
    }
    changes = [e.difference for e in setting_effects(result, "centre") if e.difference is not None]
    assert [change.corrected for change in changes] == holm([change.p for change in changes])
    assert [change.wins for change in changes] == [0.25, 0.25], "less is better, and two of four are equal"


def test_class_specific_or_not_is_compared_on_equal_settings() -> None:
    """Of the plain class the first value of what it has alone; pairs without a partner are left out."""
    plain = {f"p{s}{h}": {"class": "x.Bounce", "steps": s, "heads": h} for s in (1, 2, 3) for h in ("mean", "other")}
    sisters = {f"g{s}": {"class": "x.GradientBounce", "steps": s} for s in (2, 1)}
    settings: dict[str, dict[str, object]] = {**plain, **sisters}
    values = {"p1mean": 1.0, "p2mean": 3.0, "p3mean": 90.0, "g1": 4.0, "g2": 8.0}
    result = made({name: [values.get(name, 50.0)] * 4 for name in settings}, settings)
    found = [e for e in setting_effects(result, "centre") if e.setting == "class-specific"]
    assert [(e.kind, e.value, e.score.value) for e in found] == [("Bounce", "false", 2), ("Bounce", "true", 6)]
    assert found[1].difference is not None
    assert (found[1].difference.score.value, found[1].difference.wins) == (4, 0)
