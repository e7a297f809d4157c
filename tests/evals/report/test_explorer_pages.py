"""Explorer pages: methods, curves and class chains of one input."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from attnchain_evals.bundled.text_models import bundled_encoder
from attnchain_evals.report.explorer_pages import explore_image, explore_text
from attnchain_evals.tasks.key_values import KeyValues
from attnchain_interp import AttentionError

from ...attribution import small_models as small
from ...attribution.text.texts import DECODER, TEXT
from ..bench_tasks import tiny_vit


def header(page: Any) -> dict[str, Any]:
    found = re.search(r'id="header">(.*?)</script>', page.html)
    assert found is not None
    return json.loads(found[1])


def test_a_page_has_the_methods_their_curves_and_two_classes() -> None:
    model, pixels = tiny_vit(), torch.rand(1, 3, 16, 16)
    found = header(explore_image(model, pixels, ["TokenRank", "GradientTokenRank"], target=2))
    assert [method["name"] for method in found["methods"]] == ["TokenRank", "GradientTokenRank"]
    assert all(method["curve"]["scores"] for method in found["methods"])
    assert found["targets"][0].startswith("class 2, ")
    assert len(found["targets"]) == 2


def test_a_text_is_not_an_image() -> None:
    with pytest.raises(AttentionError, match="no image grid"):
        explore_image(bundled_encoder(), KeyValues("validation", 1)[0].input_ids[None])


def test_a_text_takes_methods_that_read_more_than_maps_and_gradients() -> None:
    model, ids = small.llama().float(), torch.tensor([DECODER(TEXT)["input_ids"]])
    names = ["TokenRank", "GradientTokenRank", "LogitTokenRank", "AttnLRP", "LeaveOneOut"]
    found = explore_text(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, DECODER, names, target=3)
    assert [method["name"] for method in header(found)["methods"]] == names
