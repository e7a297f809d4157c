"""The checks let through what they should, and catch a ranking that ignores the model, its tokens, or its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import Dinov2Config, Dinov2Model

import attnchain_interp as ac
from attnchain_evals.bench.names import build_methods, method_classes
from attnchain_evals.bench.needs import needs_of
from attnchain_evals.bench.sanity_checks import (
    permutation_deviation,
    randomisation_curves,
    rank_correlation,
    read_checks,
    sanity_checks,
)
from attnchain_evals.bench.shared_capture import SharedCapture

from ...attribution import small_models as small
from ...published import PLAIN
from ..bench_tasks import tiny_vit, vit_methods

DINOV2 = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4)

FEW = {name: f"({option}={n})" for name, options in small.FEW.items() for option, n in options.items()}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_checks_of_a_tiny_model(images: torch.Tensor) -> None:
    model = tiny_vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checks = sanity_checks(model, images, lambda model: vit_methods(model) | {"TokenRank": ac.TokenRank(**PLAIN)})
    assert [check.passed for check in checks["RandomRanking"].values()] == [False, False, None, False]
    assert checks["magnitude"]["randomised"] == pytest.approx((1, 0))
    assert (checks["magnitude"]["follows"].passed, checks["magnitude"]["agreement"].passed) == (None, True)
    for method in ("TokenRank", "Rollout", "GradientAttention"):
        assert checks[method]["follows"].passed
        assert checks[method]["agreement"].passed
        assert checks[method]["randomised"].value < 1  # type: ignore[operator]
    assert checks["TokenRank"]["class"].passed is None
    assert checks["GradientAttention"]["class"].value is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model is left as it was"


def test_every_method_of_a_class_is_asked_for_its_class(images: torch.Tensor) -> None:
    specs = [name + FEW.get(name, "") for name in method_classes() if "logits" in needs_of(name)]
    checks = sanity_checks(tiny_vit(), images[:2], lambda model: build_methods(specs, model, (4, 4)))
    assert {"AttnLRP", "LeaveOneOut", "LogitTokenRank", "GradientAttention"} <= checks.keys()
    for name, check in checks.items():
        assert check["class"].value is not None, name
        assert check["class"].value < 1, name


def test_a_model_without_a_second_class_has_no_check_of_the_class(images: torch.Tensor) -> None:
    names = ["Rollout", "RandomRanking"]
    for model, more in ((tiny_vit(classes=1), ["GradientAttention"]), (Dinov2Model(DINOV2).eval(), [])):
        checks = sanity_checks(model, images, lambda model, more=more: build_methods([*names, *more], model, (4, 4)))
        assert list(checks) == [*names, *more]
        assert all(check["class"] == (None, None) for check in checks.values())
        assert checks["Rollout"]["agreement"].passed


def test_a_method_that_knows_places_does_not_follow(images: torch.Tensor) -> None:
    class Places(ac.AttentionAttribution):
        def score(self, store: ac.AttentionStore) -> torch.Tensor:
            return torch.arange(len(store.tokens)).expand(store.batch, -1).float()

    shared = SharedCapture(tiny_vit(), images)
    assert permutation_deviation(shared, Places()) > 0.1  # type: ignore[operator]
    for method in (ac.TokenRank(), ac.MultiBounce(start="center"), ac.ColumnSum(), ac.LeGrad(), ac.ExpectedVisits()):
        assert permutation_deviation(shared, method) < 1e-4  # type: ignore[operator]


def test_randomisation_goes_from_the_last_module_to_the_first(images: torch.Tensor) -> None:
    curves = randomisation_curves(
        tiny_vit(), images, lambda _: {"first": ac.ColumnSum(layers=0), "last": ac.ColumnSum(layers=1)}, 3
    )
    assert curves["first"][0] == pytest.approx(1), "the first layer has not been reached"
    assert curves["last"][-1] < 0.99
    assert len(curves["last"]) == 3


def test_the_rank_correlation_is_spearmans() -> None:
    left, right = torch.rand(2, 4, 4).round(decimals=1), torch.rand(2, 4, 4)
    expected: list[Any] = [scipy.stats.spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(left, right, strict=True)]
    assert np.allclose(rank_correlation(left, right), expected)
    assert rank_correlation(torch.ones(1, 2, 2), right[:1, :2, :2]).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", r"Expecting value.*"), ('{"examples": 2, "checks": {"Rollout": 3}}', "Rollout: Input should be .*; 3 came")],
)
def test_damaged_checks_are_named_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "sanity.json").write_text(text)
    with pytest.raises(
        ac.AttentionError, match=rf"sanity\.json is damaged \({said}\)\.\nRemove it and run again with --sanity"
    ):
        read_checks(tmp_path / "sanity.json")
