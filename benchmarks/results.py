"""Regenerates the results on test images: `python -m benchmarks.results` (512 images, some fifteen minutes on two cores).

Writes `docs/results.md`, the table in README.md between its two markers, and the pictures in `docs/images/`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from attnchain_evals import BenchmarkResult
from attnchain_evals.bench.markdown import table
from attnchain_evals.cli import demo_methods
from attnchain_evals.demo import run

ROOT = Path(__file__).parents[1]
FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 1.0)
BEGIN, END = "<!-- results: python -m benchmarks.results -->\n", "<!-- end of results -->"
DIFFERENCE = "SRG − Rollout"
COLUMNS = {
    "deletion ↓": "deletion/mean",
    "insertion ↑": "insertion/mean",
    f"{DIFFERENCE}, mean colour": "srg/mean",
    f"{DIFFERENCE}, blur": "srg/blur",
    "mean IoU ↑": "miou",
}


def short_table(result: BenchmarkResult) -> str:
    """The table in README.md: scores, and paired differences of SRG."""

    def cell(method: str, title: str, metric: str) -> str:
        if not title.startswith(DIFFERENCE):
            return str(result.scores[method][metric])
        return "0" if method == result.baseline else str(result.differences[method][metric].score)

    rows = [[method, *(cell(method, *column) for column in COLUMNS.items())] for method in result.methods]
    return table(["method", *COLUMNS], rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result, accuracy, files = run(demo_methods(), Path(folder), arguments.images, arguments.seed, FRACTIONS)
        for file in files:
            if file.suffix == ".png":
                shutil.copy(file, ROOT / "docs" / "images" / file.name)
    configuration = result.manifest["configuration"]
    versions = ", ".join(f"{name} {version}" for name, version in configuration["code"].items() if name != "sources")
    page = f"""# Results on the bundled task

By `python -m benchmarks.results`: {arguments.images} test images of `ClutteredDigits` (seed {arguments.seed}) and the bundled
vision transformer, accuracy {accuracy:.3f}. Mean over images [95 % bootstrap interval]. Curves are taken at
the fractions {", ".join(f"{fraction:.3g}" for fraction in FRACTIONS)}; the class is that of the clean prediction.
SRG is insertion − deletion (deletion in the reversed order is insertion). Differences are paired, image by image.

All methods read attention alone and are told nothing of the class; `input magnitude` (|x − mean|) looks at no model at all.
The defaults were chosen on validation images ([how](defaults.md)); these are test images.

{result.markdown()}

Versions: {versions}. Weights sha256 {configuration["model"]["sha256"][:16]}….
"""
    (ROOT / "docs" / "results.md").write_text(page, encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    (ROOT / "README.md").write_text(before + BEGIN + short_table(result) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
