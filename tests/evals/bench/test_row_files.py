"""Rows on the disk: damaged, foreign, locked, and when the disk is full."""

from __future__ import annotations

import resource
from pathlib import Path

import pandas as pd
import pytest

from attnchain_evals.bench.row_files import PartFile
from attnchain_evals.bench.runner import run
from attnchain_interp import AttentionError

from ..bench_tasks import ALONE, plan, same, table


def test_rows_carried_from_another_folder_are_refused(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    run(plan(seed=1), tmp_path / "other", ALONE)
    (tmp_path / "whole" / "rows-00001.csv").write_bytes((tmp_path / "other" / "rows-00000.csv").read_bytes())
    with pytest.raises(AttentionError, match="rows-00001.csv holds rows of the run"):
        run(plan(), tmp_path / "whole", ALONE)


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


def test_two_runs_of_one_folder_are_refused(tmp_path: Path) -> None:
    first = PartFile(tmp_path / "rows-00000.csv")
    with pytest.raises(AttentionError, match="being written by another process"):
        PartFile(tmp_path / "rows-00000.csv")
    first.close()
    PartFile(tmp_path / "rows-00000.csv").close()
