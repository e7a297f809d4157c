"""Figures as files: the same bytes for the same figure, text that stays text, refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from matplotlib import rcParams
from matplotlib.figure import Figure

import attnchain_interp as ac
from attnchain_interp import pictures


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_the_same_figure_is_the_same_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    for k, day in enumerate((10**9, 2 * 10**9)):
        monkeypatch.setattr("time.time", lambda day=day: day)
        figure = pictures.show_chain(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), 0)
        contents.append(pictures.write_figure(figure, tmp_path / f"{k}.{kind}").read_bytes())
    assert contents[0] == contents[1]
    assert b"Date" not in contents[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"0.{kind}", f"1.{kind}"]


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_a_full_disk_is_named(kind: str, tmp_path: Path) -> None:
    import resource

    figure = pictures.show_chain(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ac.AttentionError, match=rf"a\.{kind} could not be written \(.*\)\.\nFree some space"):
            pictures.write_figure(figure, tmp_path / f"a.{kind}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_threads_that_write_at_the_same_time_leave_the_settings_as_they_were(tmp_path: Path) -> None:
    """The second kept the settings of the first, for all pictures of the user."""
    before, begun, ended = dict(rcParams), [Event(), Event()], Event()

    class Slow(Figure):
        def savefig(self, fname: Any, **options: Any) -> None:
            second = begun[0].is_set()
            begun[second].set()
            assert (ended if second else begun[1]).wait(60)
            super().savefig(fname, **options)

    def write(name: str) -> Path:
        return pictures.write_figure(Slow(), tmp_path / name)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(write, "first.svg")
        assert begun[0].wait(60)
        last = threads.submit(write, "last.svg")
        assert first.result().exists()
        ended.set()
        assert last.result().exists()
    assert dict(rcParams) == before


def test_text_stays_text(tmp_path: Path) -> None:
    figure = pictures.show_chain(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), 0, labels=["sunshine", "<rain>"])
    svg = pictures.write_figure(figure, tmp_path / "chain.svg").read_text(encoding="utf-8")
    assert ">sunshine</text>" in svg
    assert "&lt;rain&gt;" in svg
    pdf = pictures.write_figure(figure, str(tmp_path / "chain.pdf")).read_bytes()
    assert b"/FontFile2" in pdf, "TrueType, which stays editable"
    assert b"/Type3" not in pdf


def test_what_is_refused(tmp_path: Path) -> None:
    figure = pictures.show_chain(torch.eye(2) / 2 + 0.25)
    for name, message in (
        ("a.jpg", "ends in .pdf, .svg, .png"),
        ("a", "no suffix"),
        ("no/a.pdf", "there is no folder"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            pictures.write_figure(figure, tmp_path / name)


def test_a_picture_with_too_many_pixels(tmp_path: Path) -> None:
    figure = Figure(figsize=(0.1, 700))
    with pytest.raises(ac.AttentionError, match="(?s)0 × 700 inches at dpi=150 has 105000 pixels.*dpi=93 or less"):
        pictures.write_figure(figure, tmp_path / "tall.png")
    assert pictures.write_figure(figure, tmp_path / "tall.png", dpi=93).exists()
