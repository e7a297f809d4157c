"""Paired timings of two jobs, and the memory of one.

*Timings.* The machine may be shared, so only ratios are judged, of two sides called in turn within one process: A B, then B A,
then A B … after one call of each that is not counted; short calls get more rounds. Each side counts by its minimum, the call
that others disturbed least; the median of the ratios of the rounds is kept beside it.

*Memory.* Each side runs in a fresh process. There the job prepares (model, inputs, a small run of the same code that loads
libraries and starts threads), freed memory is given back, the kernel's high-water mark of resident memory is reset, and the
work is done with its result still held: peak extra memory is that mark minus the level just before. The mark (`VmHWM`) is kept
by the kernel page by page, so no peak is missed between samples; `ru_maxrss` is the same mark but cannot be reset, and would
report the peak of an import. Large blocks are mapped one by one in these processes (`MALLOC_MMAP_THRESHOLD_`), so that what is
freed leaves the process at once and memory kept for later is not taken for memory in use. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, final

import torch

from studies.report_pages import ROOT
from studies.speed.rows import Bar, Figure, Skipped

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@final
@dataclass(frozen=True)
class Paired:
    """Seconds of each call of both sides, round by round."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def slowdown(self) -> float:
        """Our minimum over theirs."""
        return min(self.ours) / min(self.theirs)

    @property
    def median_slowdown(self) -> float:
        """The median over the rounds of our time over theirs."""
        return statistics.median(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    def times_as_fast(self, name: str, bar: float | None = None) -> Figure:
        """Their time over ours."""
        return Figure(name, 1 / self.slowdown, "×", Bar(bar, "≥") if bar else None, self._note(1 / self.median_slowdown))

    def times_as_long(self, name: str, bar: float | None = None) -> Figure:
        """Our time over theirs."""
        return Figure(name, self.slowdown, "×", Bar(bar) if bar else None, self._note(self.median_slowdown))

    def _note(self, median: float) -> str:
        return f"{min(self.ours):.3g} s against {min(self.theirs):.3g} s; median of {len(self.ours)} rounds {median:.3g}×"


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 5, seconds: float = 8) -> Paired:
    """Both sides timed in turn, the order changing with every round, after one call of each that is not counted.

    Short calls get more rounds than `rounds`: up to five times as many, for as long as `seconds` have not gone by.
    """
    sides: list[tuple[Callable[[], Any], list[float]]] = [(ours, []), (theirs, [])]
    for call, _ in sides:
        call()
    start = time.perf_counter()
    for k in range(5 * rounds):
        if k >= rounds and time.perf_counter() - start > seconds:
            break
        for call, taken in sides if k % 2 == 0 else reversed(sides):
            taken.append(seconds_of(call))
    (_, mine), (_, others) = sides
    return Paired(tuple(mine), tuple(others))


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds of one call, work queued on a CUDA device included."""
    _finish()
    start = time.perf_counter()
    call()
    _finish()
    return time.perf_counter() - start


def seconds_and_peak(call: Callable[[], Any]) -> tuple[float, int]:
    """Seconds of one call, and the bytes of a CUDA device that it takes at its peak, beyond the level before; 0 without it."""
    if not torch.cuda.is_available():
        return seconds_of(call), 0
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    return seconds_of(call), torch.cuda.max_memory_allocated() - before


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@final
@dataclass(frozen=True)
class Memory:
    """The memory of one job in its own process: bytes over the level before at the peak, that level, and seconds."""

    extra: int
    before: int
    seconds: float


@cache
def memory_of(job: Callable[..., Callable[[], Any]], *arguments: str | int) -> Memory:
    """The peak extra memory of what `job(*arguments)` returns, called in a process of its own. A job is a module's function.

    A job is measured once; rows that share one share the figure.

    Raises:
        Skipped: not on Linux.
    """
    if not _RESET.exists():
        raise Skipped("memory is measured by Linux's /proc, which is not here")
    command = [sys.executable, "-m", "studies.speed.measurement", f"{job.__module__}:{job.__name__}", json.dumps(arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def _measure_here(job: str, arguments: str) -> Memory:
    """The other half of `memory_of`: runs in the fresh process."""
    module, _, name = job.partition(":")
    work = getattr(import_module(module), name)(*json.loads(arguments))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5", encoding="ascii")  # the high-water mark falls to the present level
    before = _resident("VmRSS")
    start = time.perf_counter()
    held = work()
    seconds = time.perf_counter() - start
    peak = _resident("VmHWM")
    del held
    return Memory(max(0, peak - before), before, seconds)


def _resident(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise Skipped(f"{_STATUS} has no {field}")
    return int(found[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(vars(_measure_here(*sys.argv[1:]))))
