"""COCO panoptic, of a tiny folder laid out as the published one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnchain_evals.tasks.coco_panoptic import CocoPanoptic
from attnchain_interp import AttentionError

from ..miniatures import write_coco


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_coco(tmp_path / "coco")
    return tmp_path / "coco"


def test_classes_and_segments_of_every_pixel(coco: Path) -> None:
    data = CocoPanoptic(coco)
    assert len(data) == 2
    assert data.classes == ["animal", "sky"]
    image, mask = data[1]
    assert tuple(image.shape) == (3, 48, 60)
    assert image[2, 0, 0] >= 200
    sky, dog, nobody = mask[:, 0, 0].tolist(), mask[:, 0, 30].tolist(), mask[:, 0, 59].tolist()
    assert (sky[0], dog[0]) == (1, 0)
    assert sky[1] != dog[1]
    assert nobody == [-1, -1]
    assert [(mask[0] == number).sum() for number in (1, 0, -1)] == [48 * 20, 48 * 24, 48 * 16]
    assert repr(data).endswith("val2017: 2 images)")


def test_the_identity_follows_annotations_maps_and_photographs(coco: Path) -> None:
    files = ["annotations/panoptic_val2017.json", "annotations/panoptic_val2017/*.png", "val2017/*"]
    seen = [CocoPanoptic(coco).identity["sha256"]]
    for pattern in files:
        file = next(coco.glob(pattern))
        file.write_bytes(file.read_bytes() + b" ")
        seen.append(CocoPanoptic(coco).identity["sha256"])
    assert len({*seen}) == 4


@pytest.mark.parametrize("part", ["annotations/panoptic_val2017.json", "annotations/panoptic_val2017", "val2017"])
def test_another_layout_is_refused(coco: Path, part: str) -> None:
    gone = coco / part
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(AttentionError, match=rf"coco holds .*annotations/.*; {part} is wanted"):
        CocoPanoptic(coco)
    with pytest.raises(AttentionError, match="there is no folder .*nowhere"):
        CocoPanoptic(coco / "nowhere")


def changed(coco: Path, name: str, value: object) -> None:
    file = coco / "annotations" / "panoptic_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))


def test_what_the_annotations_lack_is_named(coco: Path) -> None:
    row = {"image_id": 10, "file_name": "0.png", "segments_info": [{"id": 301, "category_id": 18}]}
    changed(coco, "annotations", [row])
    with pytest.raises(AttentionError, match="'annotations', entry 0 has no category for the segment 70000 of its map"):
        CocoPanoptic(coco)[0]
    changed(coco, "annotations", [{**row, "image_id": 99}])
    with pytest.raises(AttentionError, match="entry 0 is of an image that is not listed"):
        CocoPanoptic(coco)
    changed(coco, "annotations", [])
    with pytest.raises(AttentionError, match=r"panoptic_val2017.json has no annotation"):
        CocoPanoptic(coco)
    changed(coco, "categories", 3)
    with pytest.raises(AttentionError, match="'categories' of type int"):
        CocoPanoptic(coco)


def test_a_map_of_another_size_is_refused(coco: Path) -> None:
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(coco / "annotations" / "panoptic_val2017" / "0.png")
    with pytest.raises(AttentionError, match="has 7 × 5 pixels, and its photograph 60 × 40"):
        CocoPanoptic(coco)[0]
