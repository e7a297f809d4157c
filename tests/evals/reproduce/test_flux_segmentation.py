"""Segmentation by diffusion models, end to end: small copies of the published file, tiny pipelines loaded from a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

import attnchain_interp as ac
from attnchain_evals import segmentation_scores
from attnchain_evals.cli import app as cli
from attnchain_evals.reproduce.flux_segmentation import (
    METHODS,
    LazyPipeline,
    Options,
    commit_of,
    grid_of,
    layers_of,
    load_pipeline,
)
from attnchain_interp import AttentionError

from ...tiny_pipelines import flux, stable_diffusion
from ..miniatures import write_gtsegs

WORDS = ("tench", "dog")


def reproduce(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, ["reproduce", "flux-segmentation", *map(str, arguments)])


def scores_of(page: str, method: str) -> list[float]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {method} |"))
    return [float(cell.split()[0]) for cell in line.strip("|").split("|")[1:]]


CASES: list[tuple[Any, tuple[str, ...], dict[str, Any]]] = [
    (flux, ("--text", "12", "--heads", "mean"), {"max_sequence_length": 12}),
    (stable_diffusion, ("--grid", "8x8"), {"grid": (8, 8), "heads": "lambda2"}),
]


@pytest.mark.parametrize(("build", "flags", "options"), CASES)
def test_on_a_small_copy(build: Any, flags: tuple[str, ...], options: dict[str, Any], tmp_path: Path) -> None:
    made = write_gtsegs(tmp_path / "small.mat", 3)
    pipe = build()
    pipe.save_pretrained(tmp_path / "pipe")
    arguments = (
        "--data",
        f"imagenet-segmentation:{tmp_path / 'small.mat'}",
        "--model",
        tmp_path / "pipe",
        "--size",
        "32",
        "-o",
        tmp_path / "run",
        *flags,
    )
    done = reproduce(*arguments)
    assert done.exit_code == 0, done.output
    ours, reported = done.stdout.split("## Reported by others")
    assert "94.29" in reported
    assert "secondary note" in reported

    from PIL import Image

    maps, masks = [], []
    for number, (pixels, mask) in enumerate(made):
        image = Image.fromarray(pixels).resize((32, 32))
        generator, word = torch.Generator().manual_seed(number), WORDS[number % 2]
        options = {"timestep": 250, **options}
        found = ac.diffusion.concept_map(pipe, image, f"a {word}", word, steps=2, generator=generator, **options)
        maps.append(F.interpolate(found[:, None], (224, 224), mode="nearest")[0, 0])
        masks.append(torch.from_numpy(np.array(Image.fromarray(mask).resize((224, 224), Image.Resampling.NEAREST)) > 0))
    expected = segmentation_scores(torch.stack(maps), torch.stack(masks))
    assert scores_of(ours, "2 bounces, incoming") == pytest.approx([100 * value for value in expected.values()], abs=0.006)
    assert all(f"| {method} |" in ours for method in METHODS)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_gtsegs(tmp_path / "small.mat", 2)
    stable_diffusion().save_pretrained(tmp_path / "pipe")
    run = tmp_path / "run"
    flags = ("--size", "32", "--grid", "8x8", "--heads", "mean", "--limit", "1", "-o", run)
    arguments = ("--data", f"imagenet-segmentation:{tmp_path / 'small.mat'}", "--model", tmp_path / "pipe", *flags)
    done = reproduce(*arguments)
    assert "For testing only: limited to 1 examples" in done.stdout
    rows = (run / "rows-00000.csv").read_bytes()
    os.truncate(run / "rows-00000.csv", len(rows) - 40)  # killed while it wrote the last row
    assert reproduce(*arguments).stdout == done.stdout
    other = reproduce(*arguments, "--timestep", "500")
    assert "holds another run (options.timestep: 500.0, not 250.0)" in str(other.exception)
    (tmp_path / "pipe" / ".cache").mkdir()
    (tmp_path / "pipe" / ".cache" / "lock").touch()
    assert reproduce(*arguments).stdout == done.stdout
    weights = tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "holds another run (weights: " in str(reproduce(*arguments).exception)


def test_the_weights_of_a_name_on_the_hub_are_those_of_its_commit(tmp_path: Path) -> None:
    assert commit_of("one/two", tmp_path) is None
    assert commit_of("no/name/of/the/hub", tmp_path) is None
    commit, repo = "a" * 40, tmp_path / "models--one--two"
    stable_diffusion().save_pretrained(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    assert commit_of("one/two", tmp_path) == commit


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    assert layers_of("all") == "all"
    assert layers_of("1:3,7") == [1, 2, 7]
    assert grid_of("16x8") == (16, 8)
    write_gtsegs(tmp_path / "small.mat", 1)
    common = ("--data", f"imagenet-segmentation:{tmp_path / 'small.mat'}", "-o", tmp_path / "run", "--model", tmp_path)
    for flags, message in (
        (("--layers", "last"), "layers 'last' is neither \"all\" nor numbers"),
        (("--grid", "16"), "grid '16' has no rows and columns"),
        ((), "diffusers could not load"),
        (("--data", "digits:test"), "data 'digits:test' have no words for the classes of their masks"),
    ):
        done = reproduce(*common, *flags, "-o", tmp_path / ("run" + "".join(flags)))
        assert isinstance(done.exception, ac.AttentionError)
        assert message in str(done.exception)


def test_a_pipeline_is_loaded_on_its_first_use_in_its_dtype(tmp_path: Path) -> None:
    model = LazyPipeline(str(tmp_path / "pipe"), "cpu", Options(dtype="bfloat16"))
    assert next(model.parameters()).device.type == "cpu"
    stable_diffusion().save_pretrained(tmp_path / "pipe")
    assert model.pipe.unet.dtype == torch.bfloat16
    assert model.pipe is model.pipe


@pytest.mark.parametrize(
    ("options", "message"), [(Options(dtype="half"), "dtype='half' is unknown"), (Options(), "diffusers could not load")]
)
def test_an_unknown_dtype_and_an_empty_folder_are_refused(options: Options, message: str, tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=message):
        load_pipeline(str(tmp_path), "cpu", options)
