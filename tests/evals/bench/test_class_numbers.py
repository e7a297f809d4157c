"""Which number a model gives the class of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from attnchain_evals import ClassFolder, preset
from attnchain_evals.bench.class_numbers import check_labels, class_names, names_all
from attnchain_evals.bench.experiment import carry_out, set_up
from attnchain_evals.bench.settings import BenchSettings
from attnchain_interp import AttentionError

from ..miniatures import write_timm

BY_LABEL = "token-masking(target='label')"


def written(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (40 * number % 256, 90, 0)).save(folder / name / "0.png")
    return folder


def vit(folder: Path, *names: str) -> str:
    """Writes a ViT of transformers with these classes, and returns its name on the command line."""
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=32,
        id2label=dict(enumerate(names)),
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def test_folders_have_the_numbers_that_the_model_gives_their_names(tmp_path: Path) -> None:
    """The sorted folders would be 0 and 1."""
    pets = written(tmp_path / "pets", "cat", "dog")
    found = set_up(vit(tmp_path / "vit", "dog", "bird", "cat"), f"classes:{pets}", None, 0, "cpu")
    assert class_names(found.model) == ("dog", "bird", "cat")
    assert found.data.labels == [2, 0]
    check_labels(found.data, found.model, [preset("token-masking", target="label")])
    unnamed = set_up(vit(tmp_path / "unnamed", "LABEL_0", "LABEL_1"), f"classes:{pets}", None, 0, "cpu")
    assert (class_names(unnamed.model), unnamed.data.labels) == ((), [0, 1])
    check_labels(unnamed.data, unnamed.model, [preset("token-masking", target="label")])


def test_a_name_of_two_classes_names_none(tmp_path: Path) -> None:
    data = ClassFolder(written(tmp_path, "crane"), lambda _: torch.zeros(1, 3, 4, 4))
    assert names_all(data, ("crane", "x"))
    assert not names_all(data, ("crane", "crane"))
    assert not names_all([], ())


@pytest.mark.parametrize(
    ("folders", "classes", "said"),
    [
        (("3", "7"), (), "the data have 2 classes and the model has 10"),
        (("cat", "dog"), ("Dog", "Cat"), r"not every folder \(cat …\) is a class of the model \(Dog …\)"),
        (tuple(map(str, range(11))), ("LABEL_0",) * 11, "numbers that sort as texts: 0, 1, 10 …"),
    ],
)
def test_labels_of_unknown_numbers_are_refused(
    folders: tuple[str, ...], classes: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Metrics of the prediction read no labels, and go on."""
    model = vit(tmp_path / "vit", *classes) if classes else "bundled"
    data = f"classes:{written(tmp_path / 'data', *folders)}"
    options: dict[str, Any] = {"model": model, "data": data, "methods": "Rollout,RandomRanking", "device": "cpu"}
    with pytest.raises(AttentionError, match=rf"token-masking\(target='label'\) reads labels, and .*{said}"):
        carry_out(BenchSettings.of(options | {"metrics": BY_LABEL}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert carry_out(BenchSettings.of(options | {"metrics": "token-masking"}), tmp_path / "run").finished


def test_folders_that_sort_as_the_classes_do_are_numbered(tmp_path: Path) -> None:
    """Padded numbers sort, as do those below 10; a part of ImageNet has its numbers in a model of 1,000 classes."""
    by_label = [preset("token-masking", target="label")]

    class Pixels(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(classes))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.weight.expand(len(images), -1)

    numbered = set_up(
        vit(tmp_path / "vit", "Cat", "dog"), f"classes:{written(tmp_path / 'numbered', '00', '01')}", None, 0, "cpu"
    )
    check_labels(numbered.data, numbered.model, by_label)
    for name, folders in (("two", ("00", "01", "10")), ("one", tuple(map(str, range(10))))):
        data = ClassFolder(written(tmp_path / name, *folders), lambda _: torch.zeros(1, 3, 4, 4))
        check_labels(data, Pixels(len(folders)).eval(), by_label)
    found = set_up(write_timm(tmp_path / "timm"), f"classes:{written(tmp_path / 'part', 'n15075141')}", None, 0, "cpu")
    check_labels(found.data, found.model, by_label)
    assert found.data.labels == [999]
    with pytest.raises(AttentionError, match="have 1000 classes and the model has 3"):
        check_labels(found.data, Pixels(3).eval(), by_label)
