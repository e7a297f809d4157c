"""Speed and memory, each held against its bar: `python -m studies.speed` (half an hour on two cores).

Prints every figure with its bar, and writes all of them to a JSON file; what is not run again keeps what the file holds. The
exit status is 1 when a row on the CPU falls short. Rows, and how they are measured: `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from attnchain_interp.files import write_text
from studies.report_pages import between, write
from studies.speed import (
    attribution,
    capture,
    chains,
    contributions,
    cuda,
    explorer_pages,
    factored,
    files,
    imports,
    long_prompts,
    perturbation,
    real_maps,
    sampling,
    states,
    texts,
    tracing,
)
from studies.speed.rows import BROKE, Result, Row, Skipped, table

ROWS: Final[dict[str, Row]] = {
    row.name: row
    for module in (
        chains,
        real_maps,
        attribution,
        capture,
        contributions,
        long_prompts,
        texts,
        tracing,
        sampling,
        factored,
        states,
        perturbation,
        explorer_pages,
        files,
        imports,
        cuda,
    )
    for row in module.ROWS
}
PAGE: Final = "docs/performance.md"
BEGIN, END = "<!-- performance: python -m studies.speed -->\n", "<!-- end of performance -->"


def measure(row: Row) -> Result:
    """The row's figures. A row that raises falls short, and the others are still measured."""
    start = time.perf_counter()
    figures, reason = (), ""
    try:
        if row.device == "cuda" and not torch.cuda.is_available():
            raise Skipped("no CUDA device")
        figures = tuple(row.measure())
    except Skipped as why:
        reason = f"skipped: {why}"
    except Exception as error:  # noqa: BLE001
        reason = f"{BROKE}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    seconds = round(time.perf_counter() - start, 1)
    return Result(row.name, row.title, row.device, figures, reason, machine(row.device), seconds)


def machine(device: str) -> str:
    """Processor and versions, in words."""
    if device == "cuda" and torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        where = f"{torch.get_num_threads()} CPU threads ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{where}, torch {torch.__version__}, Python {platform.python_version()}"


def read(path: Path) -> dict[str, Result]:
    """Reads the known rows of the file; none where there is no file."""
    if not path.exists():
        return {}
    found = (Result.from_json(row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"])
    return {result.name: result for result in found if result.name in ROWS}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m studies.speed", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--output", type=Path, default=Path("performance.json"), help="default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="write the table in docs/performance.md too")
    chosen = parser.parse_args(arguments)
    known = read(chosen.output)
    ran = []
    for name in chosen.only:
        print(f"{name}: {ROWS[name].title}", flush=True)
        result = measure(ROWS[name])
        for figure, measured, bar, verdict in result.lines:
            print(
                "    " + "; ".join(filter(None, [f"{figure} {measured}".strip(), bar and f"bar {bar}", verdict])), flush=True
            )
        ran.append(result)
        if name not in known or not result.reason.startswith("skipped"):  # a figure measured elsewhere stays
            known[name] = result
        ordered = [known[row] for row in ROWS if row in known]
        write_text(chosen.output, json.dumps({"rows": [asdict(one) for one in ordered]}, indent=1, ensure_ascii=False) + "\n")
        if chosen.markdown:
            write({PAGE: between(PAGE, BEGIN, END, table(ordered))})
    short = [result.name for result in ran if result.falls_short]
    print(f"falls short: {', '.join(short)}" if short else "no row falls short")
    return int(any(ROWS[name].device == "cpu" for name in short))


if __name__ == "__main__":
    sys.exit(main())
