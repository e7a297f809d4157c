from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from attnchain_evals.cli import app as cli
from attnchain_evals.probes import LinearProbe, kept_probe
from attnchain_interp import AttentionError

from ..miniatures import write_timm
from .vits import dino, preprocess, write_colours

IMAGE = torch.rand(1, 3, 16, 16)


def test_a_probe_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_colours(tmp_path / "images", ("train", "val"))
    first = kept_probe(dino(), source, preprocess, tmp_path / "kept", IMAGE)
    monkeypatch.setattr(LinearProbe, "fit", None)
    for place in (source, tmp_path / "kept"):
        again = kept_probe(dino(), place, preprocess, tmp_path / "kept", IMAGE, rank=1)
        with torch.no_grad():
            assert torch.equal(again(IMAGE), first(IMAGE))
    with pytest.raises(AttentionError, match="and the backbone is Dinov2Model"):
        kept_probe(dino(seed=1), source, preprocess, tmp_path / "kept", IMAGE)
    for place in (source, tmp_path / "kept"):
        with pytest.raises(
            AttentionError, match=r"(?s)on images whose black is .* preprocessing gives .*Restore the preprocessing"
        ):
            kept_probe(dino(), place, lambda image: preprocess(image) - 0.5, tmp_path / "kept", IMAGE)
        with pytest.raises(AttentionError, match=r"images whose size is \[16, 16\], and .* gives \[32, 32\]"):
            kept_probe(dino(), place, lambda image: preprocess(image).repeat(1, 1, 2, 2), tmp_path / "kept", IMAGE)
    record = json.loads((tmp_path / "kept" / "probe.json").read_text())
    del record["preprocessing"]
    (tmp_path / "kept" / "probe.json").write_text(json.dumps(record))
    kept_probe(dino(), tmp_path / "kept", lambda image: preprocess(image) - 0.5, tmp_path / "kept", IMAGE)
    (source / "train" / "red" / "0.png").unlink()
    with pytest.raises(AttentionError, match="holds a probe of other images than"):
        kept_probe(dino(), source, preprocess, tmp_path / "kept", IMAGE)


def test_another_layout_is_named(tmp_path: Path) -> None:
    def wanted(folder: Path) -> Any:
        return kept_probe(dino(), folder, preprocess, tmp_path / "kept", IMAGE)

    with pytest.raises(AttentionError, match="there is no folder"):
        wanted(tmp_path / "nothing")
    write_colours(tmp_path / "images", ("train",))
    with pytest.raises(AttentionError, match=r"holds train/; train/CLASS/… and validation/CLASS/…, or probe"):
        wanted(tmp_path / "images")


def test_the_command(tmp_path: Path) -> None:
    images, model = write_colours(tmp_path / "images", ("train", "validation", "test")), write_timm(tmp_path / "vit", 0)

    def invoke(data: str, *options: str) -> Any:
        arguments = ["bench", "run", "--model", model, "--data", data, "--methods", "Rollout,GradientAttention", *options]
        return CliRunner().invoke(cli.app, [*arguments, "-o", str(tmp_path / "run")], catch_exceptions=False)

    metrics = ("--metrics", "token-masking(target='label')")
    assert invoke(f"classes:{images / 'test'}", "--probe", str(images), *metrics).exit_code == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["run"]["configuration"]["model"]["class"] == "LinearProbe"
    assert report["run"]["configuration"]["model"]["name"] == f"{model}, linear probe"
    kept = (tmp_path / "run" / "probe" / "probe.json").read_bytes()
    before = (tmp_path / "run" / "rows-00000.csv").read_bytes()
    assert invoke(f"classes:{images / 'test'}", "--probe", str(images), *metrics).exit_code == 0
    assert (tmp_path / "run" / "rows-00000.csv").read_bytes() == before, "the run goes on where it was"
    assert (tmp_path / "run" / "probe" / "probe.json").read_bytes() == kept
    with pytest.raises(AttentionError, match="the model takes no images, so it has no probe"):
        CliRunner().invoke(
            cli.app,
            ["bench", "run", "--model", "bundled-decoder", "--probe", str(images), "-o", str(tmp_path / "other")],
            catch_exceptions=False,
        )
