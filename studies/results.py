"""Measures the results on test images again: `python -m studies.results` (512 images, some fifteen minutes on two cores).

Writes `docs/results.json` (the report without the wins) and the pictures in `docs/images/`, and makes `docs/results.md` from
that file alone. With `--report FILE` it measures nothing, and takes the report of a run that `demo.run` left in a folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from attnchain_evals.bench.tables import Report, tables
from attnchain_evals.cli.digits_demo import demo_methods, run
from studies.report_pages import ROOT, as_kept, write

FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 1.0)
KEPT = "docs/results.json"


def pages(report: Report) -> dict[str, str]:
    """Returns path → text of every page that is made of the report."""
    configuration = report["run"]["configuration"]
    versions = ", ".join(f"{name} {version}" for name, version in configuration["code"].items() if name != "sources")
    steps = configuration["metrics"]["deletion/mean"]["columns"][1:]
    notes = "".join(f"> **{note}**\n\n" for note in report["notes"])
    seed, fractions = configuration["seed"], ", ".join(f"{float(step):.3g}" for step in steps)
    page = f"""# Results on the bundled task

Do methods of attention alone find the evidence where it is known? This page compares them on a small task, in which one digit
decides the class. [Real photographs](real-vision.md) has the figures on a really trained model.

`python -m studies.results` writes this page: {report["examples"]} test images of `ClutteredDigits` (seed {seed}) and the
bundled vision transformer. Figures are means over images [95 % bootstrap interval]. Curves are taken at the fractions
{fractions}. The class is that of the clean prediction. SRG is insertion − deletion (deletion in the reversed order is
insertion). Differences are paired, image by image. The report behind this page is [results.json](results.json).

![Input, mask of the deciding digit, and the heat map of each method](images/attributions.png)

{notes}All methods but `input magnitude` (|x − mean|, which reads no model) read attention alone, and no class. `plain`
walks have the published settings, the mean of all layers of attention. The library's defaults were chosen on models of
real images and texts ([methods](methods.md#weights-of-layers-balanced-chains-contributions)).

{tables(report)}

Versions: {versions}. Weights sha256 {configuration["model"]["sha256"][:16]}….
"""
    return {"docs/results.md": page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="report.json of a run; nothing is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.report is None:
            _, accuracy, files = run(demo_methods(), Path(folder), arguments.images, arguments.seed, FRACTIONS)
            print(f"accuracy {accuracy:.3f}")
            for file in files:
                if file.suffix == ".png":
                    shutil.copy(file, ROOT / "docs" / "images" / file.name)
        report = json.loads((arguments.report or Path(folder) / "report.json").read_text(encoding="utf-8"))
    write({KEPT: as_kept(report)} | pages(report))


if __name__ == "__main__":
    main()
