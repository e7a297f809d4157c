"""Rows on disk. Every process appends to a part file of its own. The parts together are the table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import pandas as pd

from attnchain_interp import AttentionError

FIELDS = ("run", "example", "method", "metric", "version", "column", "value")
Row = tuple[str, int, str, str, int, str, float]


@final
class PartFile:
    """A CSV file that rows are appended to. A row is on the disk once `append` returns.

    A line that a killed process left half written is cut off on opening.

    Raises:
        AttentionError: another process is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        _lock(self._descriptor, path)
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._descriptor, whole)
        if not whole:
            self._write([FIELDS])

    def append(self, rows: Iterable[Row]) -> None:
        """Writes the rows.

        Raises:
            AttentionError: the disk is full or fails; what was written before stays, nothing half written does.
        """
        self._write([(*row[:-1], repr(float(row[-1]))) for row in rows])

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, rows: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        data = memoryview(text.getvalue().encode())
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise AttentionError(
                f"{self._path} could not be written ({error}). The rows before are whole.",
                "Free some space and run the same command again.",
            ) from error


def read_parts(folder: Path, run: str) -> pd.DataFrame:
    """Reads the rows of all part files, each row once, without a last line that is half written.

    Raises:
        AttentionError: rows of another run, or a file that is not a table.
    """
    frames = [_read(path, run) for path in sorted(folder.glob("rows-*.csv"))]
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=list(FIELDS))
    return rows.drop_duplicates(["example", "method", "metric", "column"], keep="last").reset_index(drop=True)


def _read(path: Path, run: str) -> pd.DataFrame:
    data = path.read_bytes()
    text = data[: data.rfind(b"\n") + 1] or (",".join(FIELDS) + "\n").encode()
    types: Any = {**dict.fromkeys(FIELDS, str), "example": "int64", "version": "int64"}
    try:
        rows = pd.read_csv(io.BytesIO(text), dtype=types, keep_default_na=False)
        rows["value"] = rows["value"].map(float)  # pandas' own reader may miss the last bit
        foreign = rows.loc[rows["run"] != run, "run"]
    except (ValueError, KeyError) as error:
        raise AttentionError(
            f"{path} is damaged ({error}).", "Remove it and run again. Its rows are then computed again."
        ) from error
    if len(foreign):
        raise AttentionError(f"{path} holds rows of the run {foreign.iloc[0]!r}, not of {run!r}.", "Remove the file.")
    return rows


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows, where two runs of one folder are the user's to avoid
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AttentionError(
            f"{path} is being written by another process.", "Wait for that process, or use another folder."
        ) from error
