from __future__ import annotations

import numpy as np

from attnchain_evals.reproduce.reported import COCO_STUFF_27, IMAGENET_SEGMENTATION, TOKEN_MASKING, reported_table


def test_every_reported_number_has_a_source_and_how_sure_it_is() -> None:
    for row in (*IMAGENET_SEGMENTATION, *TOKEN_MASKING, *COCO_STUFF_27):
        assert row.figures
        assert row.source
        assert row.certainty.startswith("reported")
    erel = [row for row in (*IMAGENET_SEGMENTATION, *TOKEN_MASKING) if "Erel" in row.source]
    assert len(erel) == 3
    assert all("secondary" in row.certainty for row in erel)
    assert np.isfinite([float(figure) for row in IMAGENET_SEGMENTATION for figure in row.figures.values()]).all()


def test_the_table_numbers_its_sources() -> None:
    lines = reported_table(TOKEN_MASKING).splitlines()
    assert lines[0] == "| method | model | area ↓ | source |"
    assert lines[2].endswith("| 0.26 to 0.64 | [1] |")
    assert lines[-1].startswith("- [1] Erel et al., NeurIPS 2025: reported")
