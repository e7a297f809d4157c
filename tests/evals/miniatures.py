"""Small copies of published files, laid out as the real ones."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SYNSETS = ("n01440764", "n02084071")  # tench; dog, which is in ImageNet-22k only


def write_gtsegs(path: Path, count: int = 3, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Writes a `gtsegs_ijcv.mat` of images of several sizes; returns what it holds as (height, width, 3) and (height, width).

    As MATLAB writes it: arrays in `#refs#` with their axes reversed, text as uint16, cells as arrays of references.
    """
    rng, made = np.random.default_rng(seed), []
    reference = h5py.special_dtype(ref=h5py.Reference)
    with h5py.File(path, "w", userblock_size=512) as file:
        store, value = file.create_group("#refs#"), file.create_group("value")
        rows = {name: value.create_dataset(name, (count, 1), reference) for name in ("img", "gt", "id", "target")}
        for index in range(count):
            height, width = (int(side) for side in rng.integers(24, 48, 2))
            pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), np.uint8)
            top, left = int(rng.integers(height // 3)), int(rng.integers(width // 3))
            mask[top : top + height // 2, left : left + width // 2] = 1
            pixels[mask > 0] += 150
            cell = store.create_dataset(f"cell{index}", (1 + index % 2, 1), reference)  # some images have several masks
            for number in range(len(cell)):
                other = mask if number == 0 else 1 - mask
                cell[number, 0] = store.create_dataset(f"mask{index}-{number}", data=other.T).ref
            rows["gt"][index, 0] = cell.ref
            rows["img"][index, 0] = store.create_dataset(f"image{index}", data=pixels.transpose(2, 1, 0)).ref
            for name, text in (("id", f"{SYNSETS[index % 2]}_{index}"), ("target", SYNSETS[index % 2])):
                codes = np.array([[ord(letter)] for letter in text], np.uint16)
                rows[name][index, 0] = store.create_dataset(f"{name}{index}", data=codes).ref
            made.append((pixels, mask))
    return made
