"""Numbers that others reported, each with its source and how sure it is. None of them was measured by this library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from attnchain_evals.bench.tables import table


@final
@dataclass(frozen=True)
class Reported:
    """The figures that a source reports for a method.

    Attributes:
        method: its name in the source.
        model: the model of the figures.
        figures: name → figure, in the digits of the source.
        source: the publication.
        certainty: how the figures are known here.
    """

    method: str
    model: str
    figures: Mapping[str, str]
    source: str
    certainty: str


CONCEPT_ATTENTION: Final = "ConceptAttention, arXiv 2502.04320v1, Table 1"
READ: Final = "reported in that paper; whether Erel et al. compare with these figures is not confirmed"
SECONDARY: Final = "reported, from a secondary note on Erel et al., arXiv 2507.17657; their own tables could not be read"


def _segmentation(method: str, model: str, acc: float, miou: float, ap: float, *origin: str) -> Reported:
    figures = {"Acc": f"{acc:.2f}", "mIoU": f"{miou:.2f}", "mAP": f"{ap:.2f}"}
    return Reported(method, model, MappingProxyType(figures), *(origin or (CONCEPT_ATTENTION, READ)))


IMAGENET_SEGMENTATION: Final = (
    _segmentation("LRP", "CLIP ViT", 51.09, 32.89, 55.68),
    _segmentation("Partial-LRP", "CLIP ViT", 76.31, 57.94, 84.67),
    _segmentation("Rollout", "CLIP ViT", 73.54, 55.42, 84.76),
    _segmentation("ViT attention", "CLIP ViT", 67.84, 46.37, 80.24),
    _segmentation("GradCAM", "CLIP ViT", 64.44, 40.82, 71.60),
    _segmentation("TextSpan", "CLIP ViT", 75.21, 54.50, 81.61),
    _segmentation("TransInterp (Chefer et al.)", "CLIP ViT", 79.70, 61.95, 86.03),
    _segmentation("DINO attention", "DINO ViT", 81.97, 69.44, 86.12),
    _segmentation("DAAM", "SDXL UNet", 78.47, 64.56, 88.79),
    _segmentation("DAAM", "SD2 UNet", 64.52, 47.62, 78.01),
    _segmentation("cross-attention", "FLUX DiT", 74.92, 59.90, 87.23),
    _segmentation("ConceptAttention", "FLUX DiT", 83.07, 71.04, 90.45),
    _segmentation("multi-bounce (Erel et al.)", "FLUX DiT", 84.12, 70.20, 94.29, "Erel et al., NeurIPS 2025", SECONDARY),
)

TOKEN_MASKING: Final = (
    Reported("TokenRank", "a range, probably over models", {"area ↓": "0.26 to 0.64"}, "Erel et al., NeurIPS 2025", SECONDARY),
    Reported("baselines", "a range, probably over models", {"area ↓": "0.27 to 0.79"}, "Erel et al., NeurIPS 2025", SECONDARY),
)

_NOTED: Final = "reported, from secondary notes on that paper; its own table could not be read"
COCO_STUFF_27: Final = (
    Reported(
        "DiffSeg, uniform anchors",
        "SD 1.4 UNet",
        {"ACC": "72.50", "mIoU": "43.60"},
        "Tian et al., *Diffuse, Attend, and Segment*, CVPR 2024",
        _NOTED,
    ),
    Reported(
        "DiffSeg, TokenRank's anchors", "SD UNet", {"ACC": "84.97", "mIoU": "44.87"}, "Erel et al., NeurIPS 2025", _NOTED
    ),
    Reported("DiffCut", "SSD-1B UNet", {"mIoU": "49.10"}, "Couairon et al., *DiffCut*, NeurIPS 2024", _NOTED),
)


def reported_table(rows: Sequence[Reported]) -> str:
    """Returns a Markdown table: method, model, figures, number of the source; the sources with their certainty follow."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    origins = list(dict.fromkeys((row.source, row.certainty) for row in rows))
    cells = [
        [
            row.method,
            row.model,
            *(row.figures.get(name, "") for name in columns),
            f"[{1 + origins.index((row.source, row.certainty))}]",
        ]
        for row in rows
    ]
    notes = [f"- [{number}] {source}: {certainty}." for number, (source, certainty) in enumerate(origins, 1)]
    return "\n".join([table(["method", "model", *columns, "source"], cells), "", *notes])
