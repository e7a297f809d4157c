"""The row of the import."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Final

from studies.speed.measurement import ROOT
from studies.speed.rows import Bar, Figure, Row

SCRIPT: Final = """
import time
start = time.perf_counter()
import torch
between = time.perf_counter()
import attnchain_interp
end = time.perf_counter()
attnchain_interp.TokenRank
print(between - start, end - between, time.perf_counter() - end)
"""


def imports(processes: int = 7) -> list[Figure]:
    """Medians over fresh processes, each of which imports torch first; the first one, which fills caches, is left out."""
    command = [sys.executable, "-c", SCRIPT]
    runs = [
        subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603
        for _ in range(processes + 1)
    ][1:]
    torch, own, method = (statistics.median(column) for column in zip(*(map(float, run.split()) for run in runs), strict=True))
    return [
        Figure("time beyond `import torch`", own, "s", Bar(0.3), f"median of {processes}; `import torch` {torch:.2g} s"),
        Figure("the first method asked for, which loads Captum", method, "s"),
    ]


ROWS: Final = [Row("import", "`import attnchain_interp` after `import torch`, in fresh processes", imports)]
