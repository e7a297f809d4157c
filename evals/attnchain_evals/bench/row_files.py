"""Rows on disk, each with a checksum. Every process appends to a part file of its own. The parts together are the table."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd

from attnchain_interp import AttentionError

FIELDS = ("run", "example", "method", "metric", "version", "column", "value")
CHECKSUM = "crc32"  # of the line before it
KEYS = ["example", "method", "metric", "column"]
_AGREEMENT = 1e-3  # of two figures of one example: a graphics card sums in another order each time
Row = tuple[str, int, str, str, int, str, float]


@final
class PartFile:
    """A CSV file that rows are appended to. A row is on the disk once `append` returns.

    A line that a killed process left half written is cut off on opening.

    Attributes:
        fresh: the file holds nothing yet; the header comes with the first rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise AttentionError(
                f"{path} could not be opened to write ({error}).", "Let this user write there, or use another folder."
            ) from error
        _lock(self._descriptor, path)
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._descriptor, whole)
        self.fresh = not whole

    def append(self, rows: Iterable[Row]) -> None:
        """Writes the rows. Where the disk is full, the rows before stay, and nothing half written does."""
        lines = [(line, _crc(line)) for line in _lines((*row[:-1], repr(float(row[-1]))) for row in rows)]
        self._write([(_lines([FIELDS])[0], CHECKSUM.encode())] * self.fresh + lines)
        self.fresh = False

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        data = memoryview(b"".join(b"%s,%s\n" % line for line in lines))
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
    """Reads the rows of all part files, each row once, without a last line that is half written."""
    frames = [_read(path, run) for path in sorted(folder.glob("rows-*.csv"))]
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=list(FIELDS))
    again: Any = rows[rows.duplicated(KEYS, keep=False)]
    if len(again):
        ends = again.groupby(KEYS)["value"].agg(["min", "max", "size", "count"])
        off = ~np.isclose(ends["min"], ends["max"], rtol=_AGREEMENT, atol=1e-6, equal_nan=True)
        off |= (ends["count"] != 0) & (ends["count"] != ends["size"])
        if off.any():
            example, method, metric, _ = ends.index[int(off.argmax())]
            raise AttentionError(
                f"{folder} has two figures of {metric} for {method!r} on example {example}, and they contradict each other.",
                "Remove the part file that is not of this run, or run again in another folder.",
            )
    return rows.drop_duplicates(KEYS, keep="last").reset_index(drop=True)


def check_names(kind: str, names: Iterable[Any]) -> None:
    """Refuses names of methods or metrics that a line of a table cannot hold, or that a spreadsheet would compute."""
    for name in names:
        if not isinstance(name, str) or not name or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise AttentionError(
                f"the {kind} {name!r} has no name for a table.", "Use a string of printable characters without line breaks."
            )
        if name.strip()[:1] in ("=", "+", "-", "@"):
            raise AttentionError(
                f"the {kind} {name!r} begins as a formula, which a spreadsheet would compute.", "Begin the name with a letter."
            )


def _lines(rows: Iterable[Iterable[Any]]) -> list[bytes]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return [line.encode() for line in text.getvalue().splitlines()]


def _crc(line: bytes) -> bytes:
    return b"%08x" % zlib.crc32(line)


def _read(path: Path, run: str) -> pd.DataFrame:
    data = path.read_bytes()
    head, *lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1] or [",".join((*FIELDS, CHECKSUM)).encode()]
    cut = [line.rpartition(b",") for line in lines]
    if odd := [number for number, (line, _, crc) in enumerate(cut, 2) if crc != _crc(line)]:
        raise AttentionError(
            f"line {odd[0]} of {path} is damaged: its checksum differs.",
            "Remove the line and run again. Its rows are then computed again.",
        )
    types: Any = {**dict.fromkeys(FIELDS, str), "example": "int64", "version": "int64"}
    try:
        text = b"\n".join([head.rpartition(b",")[0], *(line for line, _, _ in cut)])
        rows = pd.read_csv(io.BytesIO(text), dtype=types, keep_default_na=False)
        rows["value"] = rows["value"].map(float).astype(float)  # pandas' own reader may miss the last bit
        foreign = rows.loc[rows["run"] != run, "run"]
        if list(rows.columns) != list(FIELDS):
            raise KeyError(head.decode(errors="replace"))
    except (ValueError, KeyError, OverflowError) as error:
        raise AttentionError(
            f"{path} is damaged ({error}).", "Remove it and run again. Its rows are then computed again."
        ) from error
    if len(foreign):
        raise AttentionError(f"{path} holds rows of the run {foreign.iloc[0]!r}, not of {run!r}.", "Remove the file.")
    return rows


@contextmanager
def part_file(path: Path) -> Iterator[PartFile]:
    """Opens a part file. Where the work fails before its first row, the file is removed while it is still locked."""
    part = PartFile(path)
    try:
        yield part
    except BaseException:
        if part.fresh:
            path.unlink()
        raise
    finally:
        part.close()


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
