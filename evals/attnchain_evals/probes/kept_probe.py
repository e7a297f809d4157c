"""The probe of a run: read where one is kept, else trained on a folder of classes and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.probes.linear_probe import RECORD, LinearProbe, read_files
from attnchain_evals.tasks.class_folder import ClassFolder
from attnchain_evals.tasks.mask_placement import WholeImage
from attnchain_evals.tasks.published_files import check_folder, contents
from attnchain_interp import AttentionError

WAIT: Final = 3600.0  # seconds for the first process to have trained


def kept_probe(
    model: nn.Module, source: str | Path, preprocess: Callable[[Any], Tensor], kept: Path, image: Tensor, rank: int = 0
) -> LinearProbe:
    """Returns the probe of a source, trained at most once.

    Args:
        model: a vision transformer.
        source: a folder that holds a probe (`LinearProbe.write`); or one that holds `train/CLASS/…` and `validation/CLASS/…`
            (or `val/…`), images to train on.
        preprocess: a PIL image → the model's input (1, channel, height, width). A probe that was trained on images of another
            size or normalisation is refused.
        kept: the folder where a trained probe is kept, and read the next time.
        image: (1, channel, height, width) of the model.
        rank: of this process; the first one trains, the others wait.
    """
    source = Path(source)
    seen = seen_by(preprocess)
    if (source / RECORD).is_file():
        return _of_these_images(LinearProbe.read(source, model, image), seen, source)
    train, validation = (  # the classes of a probe are its folders, also where they are ImageNet's
        ClassFolder(part, preprocess, sorted(each.name for each in part.iterdir() if each.is_dir()))
        for part in parts_of(source)
    )
    started = time.monotonic()
    while not (kept / RECORD).is_file():
        if not rank:
            trained = LinearProbe.fit(model, train, validation)
            trained.record["preprocessing"] = seen
            trained.write(kept)
        elif time.monotonic() - started > WAIT:
            raise AttentionError(f"the first process kept no probe in {kept} in {WAIT:.0f} s.", "Read its output.")
        else:
            time.sleep(0.2)
    probe = _of_these_images(LinearProbe.read(kept, model, image), seen, kept)
    if probe.record["data"] != {"train": train.identity, "validation": validation.identity}:
        raise AttentionError(f"{kept} holds a probe of other images than {source}.", "Choose another folder for the run.")
    return probe


def seen_by(preprocess: Callable[[Any], Tensor]) -> dict[str, list[float]]:
    """Returns the size of the images that a model sees, and the colours that black and white have there."""
    whole = WholeImage(preprocess)
    shares = torch.tensor([0.0, 1.0])[:, None, None, None]
    black, white = whole.normalised(shares).flatten(1).tolist()
    return {"size": list(whole.size), "black": black, "white": white}


def _of_these_images(probe: LinearProbe, seen: dict[str, list[float]], folder: Path) -> LinearProbe:
    """Refuses a probe that was trained on images of another size or normalisation. A probe of before tells neither."""
    for name, was in probe.record.get("preprocessing", {}).items():
        if not np.allclose(was, seen[name], rtol=1e-3, atol=1e-3):
            raise AttentionError(
                f"the probe of {folder} was trained on images whose {name} is {was}, and the model's preprocessing gives"
                f" {seen[name]}.",
                "Restore the preprocessing of the model, or train another probe.",
            )
    return probe


def check_source(source: str | Path) -> None:
    """Refuses a source that is neither a probe nor a folder of images to train one on, before a model is there."""
    folder = Path(source)
    if (folder / RECORD).is_file():
        read_files(folder)
    else:
        parts_of(folder)


def parts_of(folder: Path) -> tuple[Path, Path]:
    """Returns the folders of the images to train on and to validate on."""
    check_folder(folder, "Pass a folder that holds train/ and validation/, or a probe.")
    train, validation = folder / "train", [folder / name for name in ("validation", "val") if (folder / name).is_dir()]
    if not train.is_dir() or not validation:
        raise AttentionError(
            f"{folder} holds {contents(folder)}; train/CLASS/… and validation/CLASS/…, or {RECORD}, are wanted.",
            "Pass the folder above train/, or the folder of a probe.",
        )
    return train, validation[0]
