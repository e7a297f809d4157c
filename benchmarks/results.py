"""Regenerates the results on test images: `python -m benchmarks.results` (512 images, some fifteen minutes on two cores).

Writes `docs/results.md`, the table in README.md between its two markers, and the pictures in `docs/images/`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from attnchain_evals.cli import demo_methods
from attnchain_evals.demo import run
from attnchain_evals.statistics import Score

ROOT = Path(__file__).parents[1]
FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 1.0)
BEGIN, END = "<!-- results: python -m benchmarks.results -->\n", "<!-- end of results -->"
COLUMNS = {
    "deletion ↓": "deletion/mean",
    "insertion ↑": "insertion/mean",
    "SRG − Rollout, mean colour": "srg-baseline/mean",
    "SRG − Rollout, blur": "srg-baseline/blur",
    "mean IoU ↑": "miou",
}


def short_table(scores: dict[str, dict[str, Score]]) -> str:
    lines = ["| method | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[key]) for key in COLUMNS.values()) + " |" for name, row in scores.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result, accuracy, files = run(demo_methods(), Path(folder), arguments.images, arguments.seed, FRACTIONS)
        found = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        for file in files:
            if file.suffix == ".png":
                shutil.copy(file, ROOT / "docs" / "images" / file.name)
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    page = f"""# Results on the bundled task

By `python -m benchmarks.results`: {arguments.images} test images of `ClutteredDigits` (seed {arguments.seed}) and the bundled
vision transformer, accuracy {accuracy:.3f}. Mean over images [95 % bootstrap interval]. Curves are taken at
the fractions {", ".join(f"{fraction:.3g}" for fraction in found["fractions"])}; the class is that of the clean prediction.
SRG is insertion − deletion (deletion in the reversed order is insertion). Differences are paired, image by image.

All methods read attention alone and are told nothing of the class; `input magnitude` (|x − mean|) looks at no model at all.
The defaults were chosen on validation images ([how](defaults.md)); these are test images.

{result.markdown()}

Versions: {versions}. Weights sha256 {found["model"]["sha256"][:16]}….
"""
    (ROOT / "docs" / "results.md").write_text(page, encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    (ROOT / "README.md").write_text(before + BEGIN + short_table(result.scores) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
