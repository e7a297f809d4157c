"""Rows on the disk: damaged, foreign, locked, and when the disk is full."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from attnchain_evals.bench.row_files import PartFile, read_parts
from attnchain_evals.bench.runner import run
from attnchain_interp import AttentionError

from ..bench_tasks import ALONE, Noise, plan, same, table


def test_rows_carried_from_another_folder_are_refused(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    run(plan(seed=1), tmp_path / "other", ALONE)
    (tmp_path / "whole" / "rows-00001.csv").write_bytes((tmp_path / "other" / "rows-00000.csv").read_bytes())
    with pytest.raises(AttentionError, match="rows-00001.csv holds rows of the run"):
        run(plan(), tmp_path / "whole", ALONE)


def test_a_figure_that_was_changed_is_named_by_its_line(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    path = tmp_path / "whole" / "rows-00000.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace("0.", "1.", 1)
    path.write_text("".join(lines))
    with pytest.raises(AttentionError, match=r"line 5 of .*rows-00000.csv is damaged"):
        run(plan(), tmp_path / "whole", ALONE)


def test_rows_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    rows = [("k", 0, "m", "centre", 1, "value", 0.5), ("k", 1, "m", "centre", 1, "value", float("nan"))]
    for number, value in enumerate((0.5, 0.5 + 1e-9)):
        part = PartFile(tmp_path / f"rows-0000{number}.csv")
        part.append([(*rows[0][:-1], value), rows[1]])
        part.close()
    assert len(read_parts(tmp_path, "k")) == 2
    part = PartFile(tmp_path / "rows-00002.csv")
    part.append([(*rows[0][:-1], 0.7)])
    part.close()
    with pytest.raises(AttentionError, match="two figures of centre for 'm' on example 0"):
        read_parts(tmp_path, "k")


@pytest.mark.parametrize("name", ["", "a\rb", "a\nb", "\ud800", "\u2028", 5, None])
def test_names_that_a_table_cannot_hold_are_refused_before_anything(name: object, tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match="has no name for a table"):
        run(plan(methods={name: plan().methods["noise"]}), tmp_path / "out", ALONE)
    assert not (tmp_path / "out").exists()
    with pytest.raises(AttentionError, match="begins as a formula"):
        run(plan(methods={"=HYPERLINK(1)": plan().methods["noise"]}), tmp_path / "out", ALONE)


def test_a_run_that_fails_before_its_first_row_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Noise):
        def attribute(self, *arguments: object, **options: object) -> Tensor:  # type: ignore[override]
            raise AttentionError("broken.", "")

    for folder, left in ((tmp_path / "new", False), (tmp_path, True)):
        with pytest.raises(AttentionError, match="broken"):
            run(plan(methods={"broken": Broken()}), folder, ALONE)
        assert folder.exists() == left
    assert not list(tmp_path.iterdir())


def test_a_failed_run_removes_only_the_files_that_it_made(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"of": "another program"}')
    with pytest.raises(AttentionError, match="is damaged"):
        run(plan(), foreign, ALONE)
    assert [file.name for file in foreign.iterdir()] == ["run.json"]

    class Twice(Noise):
        calls = 0

        def attribute(self, *arguments: Any, **options: Any) -> Tensor:
            Twice.calls += 1
            if Twice.calls == 1:  # nothing is written yet
                with pytest.raises(AttentionError, match="being written by another process"):
                    run(twice, tmp_path / "shared", ALONE)
            return super().attribute(*arguments, **options)

    twice = plan(methods={"noise": Twice()})
    run(twice, tmp_path / "shared", ALONE)
    assert len(table(tmp_path / "shared", twice)) == 11 * 3


def test_a_run_that_cannot_begin_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the first rows come; the rows of another run are there; another process has the part."""
    with monkeypatch.context() as full:
        full.setattr(os, "write", no_space)
        with pytest.raises(AttentionError, match="could not be written"):
            run(plan(), tmp_path / "full", ALONE)
    assert not (tmp_path / "full").exists()
    other = tmp_path / "other"
    run(plan(seed=1), other, ALONE)
    (other / "run.json").unlink()
    with pytest.raises(AttentionError, match="holds rows of the run"):
        run(plan(), other, ALONE)
    assert [file.name for file in other.iterdir()] == ["rows-00000.csv"]
    held = tmp_path / "held"
    held.mkdir()
    part = PartFile(held / "rows-00000.csv")
    with pytest.raises(AttentionError, match="being written by another process"):
        run(plan(), held, ALONE)
    part.close()
    assert [file.name for file in held.iterdir()] == ["rows-00000.csv"]


def no_space(*arguments: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_garbage_is_named(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    path = tmp_path / "whole" / "rows-00000.csv"
    path.write_bytes(path.read_bytes() + b"\0\0\0,\0\n")
    with pytest.raises(AttentionError, match="rows-00000.csv"):
        run(plan(), tmp_path / "whole", ALONE)


def test_a_full_disk_is_an_error_and_corrupts_nothing(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3500, hard))  # the manifest fits, the rows do not
    try:
        with pytest.raises(AttentionError, match="(?s)could not be written .* run the same command again"):
            run(plan(), tmp_path / "full", ALONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = (tmp_path / "full" / "rows-00000.csv").read_bytes()
    assert kept.endswith(b"\n")
    assert 0 < len(kept) <= 3500
    run(plan(), tmp_path / "full", ALONE)
    same(table(tmp_path / "full", plan()), undisturbed)


def test_a_table_that_must_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows-00000.csv").mkdir()
    with pytest.raises(AttentionError, match="(?s)rows-00000.csv could not be opened to write.*use another folder"):
        PartFile(tmp_path / "rows-00000.csv")


def test_two_runs_of_one_folder_are_refused(tmp_path: Path) -> None:
    first = PartFile(tmp_path / "rows-00000.csv")
    with pytest.raises(AttentionError, match="being written by another process"):
        PartFile(tmp_path / "rows-00000.csv")
    first.close()
    PartFile(tmp_path / "rows-00000.csv").close()
