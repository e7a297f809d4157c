from __future__ import annotations

from pathlib import Path

from ..miniatures import write_gtsegs, write_timm
from .commands import reproduce


def test_a_model_without_classes_or_with_a_limit(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 4)
    name = write_timm(workplace / "dino", num_classes=0)
    arguments = ("--data", "imagenet-segmentation:small.mat", "--model", name, "--limit", "3", "-o", "run")
    page = reproduce("imagenet-segmentation", *arguments)
    assert "For testing only: limited to 3 examples" in page
    assert "| Rollout |" in page
    assert not any(f"| {method} |" in page for method in ("GradientAttention", "GradientRollout", "LeGrad"))
