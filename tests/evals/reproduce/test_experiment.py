from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import ViTImageProcessor

from attnchain_interp import AttentionError

from ..miniatures import write_gtsegs, write_timm
from ..probes.vits import dino
from .commands import reproduce


def test_a_model_without_classes_or_with_a_limit(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 4)
    name = write_timm(workplace / "dino", num_classes=0)
    arguments = ("--data", "imagenet-segmentation:small.mat", "--model", name, "--limit", "3", "-o", "run")
    page = reproduce("imagenet-segmentation", *arguments)
    assert "For testing only: limited to 3 examples" in page
    assert "| Rollout |" in page
    assert not any(f"| {method} |" in page for method in ("GradientAttention", "GradientRollout", "LeGrad"))
    backbone: Any = dino()
    backbone.save_pretrained(workplace / "hf")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(workplace / "hf")
    for model in (name, "hf:hf"):
        page = reproduce("imagenet-segmentation", *arguments[:2], "--model", model, "-o", f"run-{model[:2]}")
        assert "| Rollout |" in page
        assert "| LeGrad |" not in page
        with pytest.raises(AttentionError, match="(?s)outputs no logits.*bench run --probe FOLDER --metrics"):
            reproduce("token-masking", *arguments[:2], "--model", model, "-o", "masked")
