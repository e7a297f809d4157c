"""The examples that a report shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import attnchain_interp as ac
from attnchain_evals import Passage
from attnchain_evals.bench.example_maps import SHOWN, read_example_maps, write_example_maps
from attnchain_evals.bench.runner import Plan
from attnchain_evals.bundled.text_models import bundled_encoder
from attnchain_evals.metrics import EvidenceAP
from attnchain_evals.tasks.examples import Picture
from attnchain_evals.tasks.key_values import KeyValues

from ..bench_tasks import plan


def test_images_masks_and_maps_come_back(tmp_path: Path) -> None:
    assert read_example_maps(tmp_path) is None
    alike = plan(methods={"magnitude": plan().methods["magnitude"]})
    write_example_maps(alike, tmp_path)
    found = read_example_maps(tmp_path)
    assert found is not None
    assert found.images is not None
    assert found.masks is not None
    assert (found.images.shape, found.masks.shape, found.maps.shape) == ((SHOWN, 8, 8, 3), (SHOWN, 8, 8), (1, SHOWN, 2, 2))
    expected = alike.methods["magnitude"].attribute(torch.stack([alike.data[k].image for k in range(SHOWN)]), output="grid")  # type: ignore[index]
    assert torch.allclose(found.maps[0], expected)
    before = (tmp_path / "examples.safetensors").stat().st_mtime_ns
    write_example_maps(alike, tmp_path)
    assert (tmp_path / "examples.safetensors").stat().st_mtime_ns == before


def test_images_of_the_size_of_the_first_are_shown(tmp_path: Path) -> None:
    """Masks belong to images by their place, so they are shown where each image has one."""
    data: Any = [
        Picture(torch.rand(3, 8, width), torch.ones(8, width) if masked else None)
        for width, masked in ((8, True), (12, True), (8, False), (8, True))
    ]
    alike = plan(methods={"magnitude": plan().methods["magnitude"]})
    write_example_maps(replace(alike, data=data, batch_size=1), tmp_path)
    found = read_example_maps(tmp_path)
    assert found is not None
    assert found.images is not None
    assert (found.images.shape, found.masks, found.maps.shape) == ((3, 8, 8, 3), None, (1, 3, 2, 2))


def test_texts_keep_their_tokens(tmp_path: Path) -> None:
    data = KeyValues("validation", 2)
    write_example_maps(Plan(bundled_encoder(), data, {"Rollout": ac.Rollout()}, [EvidenceAP()]), tmp_path)
    found = read_example_maps(tmp_path)
    assert found is not None
    assert found.images is None
    assert found.texts == [data.labels(data[k].input_ids) for k in range(2)]
    assert found.maps.shape == (1, 2, len(found.texts[0]))


def test_texts_of_different_lengths(tmp_path: Path) -> None:
    data: Any = [KeyValues("validation", 1)[0].input_ids, torch.tensor([1, 30, 2, 5])]
    texts = [Passage(ids, words=torch.arange(len(ids)) - 1) for ids in data]
    write_example_maps(Plan(bundled_encoder(), texts, {"Rollout": ac.Rollout()}, [EvidenceAP()], batch_size=1), tmp_path)
    found = read_example_maps(tmp_path)
    assert found is not None
    assert [len(words) for words in found.texts] == [27, 4]
    assert found.maps.shape == (1, 2, 27)
    assert found.maps[0].isfinite().tolist() == [[False] + [True] * 26, [False] + [True] * 3 + [False] * 23]
