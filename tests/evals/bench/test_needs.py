"""Each method and each metric says truly what it needs: without that it fails, and with that alone it runs."""

import json
from pathlib import Path

import pytest
import torch

from attnchain_evals import bundled_vit
from attnchain_evals.bench.model_loading import load
from attnchain_evals.bench.names import build_methods, build_metrics, metric_names
from attnchain_evals.bench.needs import check_fits, fitting, given_by, given_by_name, needs_of, needs_of_metric
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.metrics.example_metric import Trial
from attnchain_interp import AttentionError
from attnchain_interp.capture import LoadedModel


class Headless(torch.nn.Module):
    """A backbone whose output is not a tensor of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bundled_vit()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": self.inner.forward_features(x)}


@pytest.fixture(scope="module")
def headless() -> LoadedModel:
    return LoadedModel(Headless().eval(), torch.nn.Identity(), {"x": torch.rand(1, 3, 56, 56)})


def test_models_say_what_they_give(headless: LoadedModel) -> None:
    assert given_by(load("bundled")) == {"images", "logits", "gradients"} == given_by_name("bundled")
    assert given_by(load("bundled-decoder")) == {"text", "logits", "gradients"} == given_by_name("bundled-decoder")
    assert given_by(headless) == {"images", "gradients"}
    inner = bundled_vit()
    inner.reset_classifier(0)
    assert given_by(LoadedModel(inner, None, headless.sample)) == {"text", "gradients"}, "a tensor of features is no logits"


def test_a_folder_says_it_before_it_is_loaded(tmp_path: Path) -> None:
    for architecture, logits in (("Dinov2Model", False), ("ViTForImageClassification", True), (5, True)):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        assert ("logits" in given_by_name(f"hf:{tmp_path}")) == logits
    assert "logits" in given_by_name("hf:name/of-the-hub")


def test_methods_without_needs_run_on_a_backbone_and_no_others(headless: LoadedModel) -> None:
    names = fitting(given_by(headless))
    assert {"TokenRank", "Rollout", "input magnitude"} <= set(names)
    shared = SharedCapture(headless.model, headless.sample["x"])
    for name in ("ColumnSum", "Rollout(maps='alti')", "RandomRanking", "centre prior"):
        assert name.split("(")[0] in names
        assert shared.scores(build_methods([name], headless.model, (14, 14))[name]).shape == (1, 14, 14)
    for name in ("ExpectedVisits", "LeaveOneOut", "IntegratedGradients"):
        assert "logits" in needs_of(name)
        with pytest.raises(Exception, match=r".") as failure:
            shared.scores(build_methods([name], headless.model, (14, 14))[name])
        assert not isinstance(failure.value, AssertionError)


@pytest.mark.parametrize("name", [name for name in metric_names() if not name.startswith("chefer")])
def test_metrics_without_needs_ask_for_no_class(name: str, headless: LoadedModel) -> None:
    if "text" in needs_of_metric(name):
        return
    mask = torch.zeros(1, 56, 56, dtype=torch.bool)
    mask[:, :9] = True
    trial = Trial(headless.model, headless.sample["x"], None, mask)
    (metric,) = build_metrics([name])
    if "logits" not in needs_of_metric(name):
        assert metric.measure(trial, torch.rand(1, 14, 14)).isfinite().all()
        return
    with pytest.raises((AttentionError, AttributeError, TypeError)):
        metric.measure(trial, torch.rand(1, 14, 14))


def test_what_does_not_fit_is_refused_with_what_does(headless: LoadedModel) -> None:
    given = given_by(headless)
    with pytest.raises(
        AttentionError, match=r"method 'LeGrad' needs logits, and hf:x gives none.\nUse one of AttentionFlow, .*TokenRank"
    ):
        check_fits("hf:x", given, ["TokenRank", "LeGrad"])
    with pytest.raises(AttentionError, match=r"metric 'deletion/mean' needs logits, .*\nUse one of acc, .*pointing-game"):
        check_fits("hf:x", given, ["TokenRank"], build_metrics(["acc", "deletion/mean"]))
    check_fits("hf:x", given, ["TokenRank"], build_metrics(["acc"]))


@pytest.mark.parametrize(
    ("model", "metric", "lacks", "fits"),
    [("bundled", "evidence-ap", "text", "infidelity"), ("bundled-decoder", "infidelity", "images", "evidence-ap")],
)
def test_a_metric_of_texts_is_no_remedy_for_images_nor_the_reverse(model: str, metric: str, lacks: str, fits: str) -> None:
    with pytest.raises(AttentionError, match=f"metric '{metric}' needs {lacks}, and {model} gives none") as refused:
        check_fits(model, given_by_name(model), [], build_metrics([metric]))
    remedies = str(refused.value).partition("Use one of ")[2].rstrip(".").split(", ")
    assert fits in remedies
    assert metric not in remedies
    check_fits(model, given_by_name(model), [], build_metrics([fits]))
