"""Every command says beside its result what it will do, and where the result will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attnchain_evals.cli import app as cli

from .command_line import commands

IMAGE = "PHOTO"
CALLS = {  # the command → its arguments, and what the first line beside the result says; OUT stands for a folder
    "attribute": (f"bundled {IMAGE} --output OUT", "TokenRank of {photo} by bundled: a picture and the scores, in {out}/"),
    "bench ls": ("methods", ""),
    "bench report": ("OUT", "The reports of {out}, from its rows alone: {out}/report.md, .json and .html"),
    "bench run": ("-o OUT", "A benchmark of bundled on digits:validation: rows and reports, in {out}/"),
    "demo": ("--output OUT", "11 methods on 64 test images: scores, pictures and an explorer page, in {out}/"),
    "explore": ("bundled -o OUT.html", "A page of bundled in which attention follows the pointer: {out}.html, at most 3 MB"),
    "fetch": ("minilm -o OUT", "minilm, at most 180 MB, into {out}/"),
    "figure bounces": ("bundled -o OUT.gif --steps 1", "A figure of a test image by bundled: {out}.gif"),
    "figure heads": ("bundled -o OUT.svg", "A figure of a test image by bundled: {out}.svg"),
    "figure layers": ("bundled -o OUT.svg", "A figure of a test image by bundled: {out}.svg"),
    "figure states": ("bundled -o OUT.svg", "A figure of a test image by bundled: {out}.svg"),
    "figure toy": ("-o OUT.svg", "A figure of a chain of five tokens: {out}.svg"),
    "inspect": ("bundled", "The capture of bundled on a sample input; nothing is written"),
    "reproduce coco-segmentation": ("-o OUT", "A published experiment, hf:facebook/dinov2-small on coco"),
    "reproduce flux-segmentation": (
        f"-o OUT --data imagenet-segmentation:{IMAGE}",
        "A published experiment, black-forest-labs/FLUX.1-schnell on imagenet",
    ),
    "reproduce imagenet-segmentation": (
        "-o OUT --data digits:test",
        "A published experiment, timm:vit_small_patch8_224.dino on digits",
    ),
    "reproduce token-masking": (
        "-o OUT --data digits:test",
        "A published experiment, timm:vit_base_patch16_224.augreg_in1k on digits",
    ),
    "segment": (f"bundled {IMAGE} -o OUT", "The regions of 1 image by bundled: labels, overlays and facts, in {out}/"),
}


class WorkError(Exception):
    """The work itself, which these tests leave out."""


def stop(*_: Any, **__: Any) -> Any:
    raise WorkError


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of the longer commands is left out: what they say comes first."""
    for name in (
        "attnchain_evals.bench.experiment.carry_out",
        "attnchain_evals.bench.experiment.read_result",
        "attnchain_evals.cli.attribute.load",
        "attnchain_evals.cli.explore.load",
        "attnchain_evals.cli.figure.load",
        "attnchain_evals.cli.inspect.load",
        "attnchain_evals.cli.segment.load",
        "attnchain_evals.cli.digits_demo.run",
        "attnchain_evals.cli.diffusion_demo.run",
        "attnchain_evals.cli.real_demo.run",
        "attnchain_evals.weights.fetch",
        "attnchain_evals.reproduce.coco_segmentation.coco_segmentation",
        "attnchain_evals.reproduce.flux_segmentation.flux_segmentation",
        "attnchain_evals.reproduce.imagenet_segmentation.imagenet_segmentation",
        "attnchain_evals.reproduce.token_masking.token_masking",
    ):
        monkeypatch.setattr(name, stop)


def first_line(*arguments: str) -> str:
    said = CliRunner().invoke(cli.app, arguments).stderr.splitlines()
    return said[0] if said else ""


def test_no_command_is_forgotten() -> None:
    assert sorted(commands()) == sorted(CALLS)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("command", CALLS)
def test_a_command_says_what_it_will_do_and_where(command: str, photo: Path, tmp_path: Path) -> None:
    arguments, wanted = CALLS[command]
    out = str(tmp_path / "out")
    given = [part.replace("OUT", out).replace(IMAGE, str(photo)) for part in arguments.split()]
    assert first_line(*command.split(), *given).startswith(wanted.format(out=out, photo=str(photo)[:60]))


@pytest.mark.usefixtures("idle")
def test_the_other_demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnchain_evals.cli.real_demo.real_models", lambda *_: None)
    assert first_line("demo", "--real", "--output", str(tmp_path)).endswith(f"pictures and a page, in {tmp_path}/")
    said = first_line("demo", "--diffusion", "--output", str(tmp_path))
    assert said.startswith("Samples under guidance, and a walk over an image")


@pytest.mark.usefixtures("idle")
def test_segments_are_named_as_they_are_asked_for(photo: Path, tmp_path: Path) -> None:
    asked = ("segment", "bundled", str(photo), "--output", str(tmp_path))
    assert first_line(*asked, "--point", "3,4").startswith("What belongs to 3,4 in 1 image by bundled")
    assert first_line(*asked, "--word", "dog").startswith("'dog' in 1 image by bundled")


@pytest.mark.usefixtures("idle")
def test_images_after_the_first_are_counted(tmp_path: Path) -> None:
    """However long the name of the first one is."""
    others = ["b.png", "c.png"]
    said = CliRunner().invoke(cli.app, ["attribute", "bundled", "a" * 58, *others, "--output", str(tmp_path)]).stderr
    assert said.startswith(f"TokenRank of {'a' * 58} and 2 more by bundled: ")
