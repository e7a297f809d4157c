"""Scores every method on BSDS500 and ECSSD, and writes docs/segments.md; a run that was killed goes on.

python -m studies.segments --model FOLDER --bsds500 FOLDER --ecssd FOLDER --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnchain_evals.bench.fingerprint import code_identity, differences
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_evals.tasks.bsds500 import segmentations
from attnchain_evals.tasks.digest import model_identity, sha256
from attnchain_evals.tasks.image_folder import open_image, open_mask
from attnchain_interp import AttentionError
from attnchain_interp.capture import adapter_named
from attnchain_interp.files import write_text
from studies.report_pages import write
from studies.segments.page import OWN, page
from studies.segments.photographs import Labels, cut_scores, object_maps, partition_scores, partitions

NAME = "run.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder of transformers: DINOv2-small")
    parser.add_argument("--bsds500", type=Path, required=True, help="the folder that holds images/ and groundTruth/")
    parser.add_argument("--ecssd", type=Path, required=True, help="a folder that holds images/ and masks/")
    parser.add_argument("--every", type=int, default=1, help="of ECSSD take each n-th photograph")
    parser.add_argument("--output", type=Path, required=True, help="folder of the scores and of every overlay")
    parser.add_argument(
        "--page", action="store_true", help="score nothing, and write the page of what the output folder holds"
    )
    given = parser.parse_args()
    if given.every < 1:
        parser.error(f"--every is {given.every}; it is a number from 1 on.")
    bsds500, ecssd = (sorted(folder.glob("*.jpg")) for folder in (given.bsds500 / "images/test", given.ecssd / "images"))
    if not bsds500 or not ecssd:
        parser.error(f"there is no .jpg in {given.ecssd / 'images' if bsds500 else given.bsds500 / 'images/test'}.")
    loaded = adapter_named("transformers").load(given.model)
    if loaded.preprocess is None:
        raise SystemExit(f"{given.model} takes no images.")
    reader = WholePatches(loaded.model, loaded.preprocess)
    given.output.mkdir(parents=True, exist_ok=True)

    def of_bsds500(file: Path, known: Container[str]) -> dict[str, list[float]]:
        image = open_image(file)
        found = {name: made for name, made in partitions(reader, image).items() if name not in known}
        if OWN in found:
            labels = found[OWN]()
            found[OWN] = lambda: labels
            draw(image, labels, given.output / f"overlays/{file.stem}.jpg")
        return partition_scores(found, torch.from_numpy(segmentations(given.bsds500 / f"groundTruth/test/{file.stem}.mat")))

    def of_ecssd(file: Path, known: Container[str]) -> dict[str, list[float]]:
        mask = torch.from_numpy(np.asarray(open_mask(given.ecssd / f"masks/{file.stem}.png").convert("L")) > 127)
        found = object_maps(reader, open_image(file))
        return cut_scores({name: made for name, made in found.items() if name not in known}, mask)

    rows = given.output / "bsds500.jsonl", given.output / "ecssd.jsonl"
    if not given.page:
        continue_run(given.output, {"model": model_identity(loaded.model), "code": code_identity(), "study": study()})
        scored(bsds500, of_bsds500, rows[0])
        scored(ecssd[:: given.every], of_ecssd, rows[1])
    image = open_image(bsds500[0])
    regions, objects = complete(read(rows[0]), partitions(reader, image)), complete(read(rows[1]), object_maps(reader, image))
    write({"docs/segments.md": page(regions, objects)})


def study() -> dict[str, str]:
    """Returns the sha256 of each module of this study that makes scores."""
    return {name: sha256(Path(__file__).with_name(name)) for name in ("__main__.py", "photographs.py")}


def continue_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Writes what the scores depend on into an empty folder, and refuses a folder of other scores.

    Raises:
        AttentionError: the folder holds scores of another model, of other code or libraries, or of a run that nothing names.
    """
    held = folder / NAME
    if not held.exists() and not [*folder.glob("*.jsonl")]:
        write_text(held, json.dumps(identity, indent=1))
        return
    there = json.loads(held.read_text("utf-8")) if held.exists() else {}
    if changed := differences(identity, there):
        raise AttentionError(
            f"{folder} holds another run ({'; '.join(changed[:5])}).", "Choose another folder, or move this one away."
        )


def scored(files: list[Path], score: Any, rows: Path) -> None:
    """Appends photograph → method → scores of each file: those of the methods that `rows` lacks.

    Photographs come in random order, so several processes share the work, and those of a run that was stopped are a sample.
    """
    for number, file in enumerate(random.sample(files, len(files))):
        if found := score(file, read(rows).get(file.stem, {})):
            with rows.open("a", encoding="utf-8") as held:
                held.write(json.dumps([file.stem, found]) + "\n")
        print(f"{rows.stem}: {number + 1} of {len(files)}", flush=True)


def read(rows: Path) -> dict[str, dict[str, list[float]]]:
    """Returns photograph → method → scores, of which a later line may hold more."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in rows.read_text("utf-8").splitlines() if rows.exists() else ():
        photograph, scores = json.loads(line)
        found[photograph] = found.get(photograph, {}) | scores
    return found


def complete(scores: Mapping[str, Mapping[str, list[float]]], methods: Iterable[str]) -> dict[str, dict[str, list[float]]]:
    """Returns the photographs that have scores of all methods, and the methods in their order."""
    names = [*methods]
    return {each: {name: of[name] for name in names} for each, of in scores.items() if {*names} <= {*of}}


def draw(image: Any, labels: Labels, file: Path) -> None:
    """Writes the photograph beside its regions."""
    from PIL import Image

    from attnchain_evals import Segments

    pixels = np.asarray(image)
    overlay = Segments(pixels, labels + 1, labels, np.zeros((1, 1, 1), np.float32), np.zeros(0)).overlay
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([pixels, overlay], 1)).save(file)


if __name__ == "__main__":
    main()
