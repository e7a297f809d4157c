"""Small copies of published files, laid out as the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

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


def write_timm(folder: Path, num_classes: int = 1000) -> str:
    """Writes a random vision transformer of 4 × 4 patches, and returns the name by which the command line loads it."""
    folder.mkdir()
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=num_classes, **arguments)
    if num_classes:
        model.get_parameter("head.weight").data[:3] *= 100  # the first three classes are predicted, and change with the image
    save_file(model.state_dict(), folder / "model.safetensors")
    config: dict[str, Any] = {"architecture": "vit_tiny_patch16_224", "num_classes": num_classes, "model_args": arguments}
    config["pretrained_cfg"] = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps(config))
    return f"timm:local-dir:{folder}"


def write_classes(folder: Path, each: int = 3, seed: int = 0) -> Path:
    """Writes images in one folder for each of two classes of ImageNet, and returns the folder."""
    rng = np.random.default_rng(seed)
    for synset in ("n01440764", "n01484850"):
        (folder / synset).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / synset / f"ILSVRC2012_val_{number:08d}.png")
    return folder


def write_coco(folder: Path, count: int = 2) -> None:
    """Writes a folder laid out as COCO panoptic: images of three stripes, a sky, a dog and what nobody labelled."""
    rng, split = np.random.default_rng(0), "val2017"
    for part in (folder / split, folder / "annotations" / f"panoptic_{split}"):
        part.mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        stripes = np.repeat([0, 1, 2], (20, 24, 16))[None, :].repeat(40 + 8 * number, 0)
        pixels = np.array([(30, 30, 200), (200, 60, 30), (0, 0, 0)], np.uint8)[stripes]
        Image.fromarray(pixels + rng.integers(0, 9, pixels.shape, np.uint8)).save(folder / split / f"{number}.png")
        ids = np.array([70_000, 301, 0])[stripes]
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], -1).astype(np.uint8)
        Image.fromarray(colours).save(folder / "annotations" / f"panoptic_{split}" / f"{number}.png")
        images.append({"id": 10 + number, "file_name": f"{number}.png"})
        segments = [{"id": 70_000, "category_id": 187}, {"id": 301, "category_id": 18}]
        annotations.append({"image_id": 10 + number, "file_name": f"{number}.png", "segments_info": segments})
    names = {17: ("cat", "animal"), 18: ("dog", "animal"), 187: ("sky-other-merged", "sky")}
    categories = [{"id": number, "name": name, "supercategory": group} for number, (name, group) in names.items()]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations" / f"panoptic_{split}.json").write_text(text)
