"""Names of the command line: methods with settings, metrics."""

from __future__ import annotations

import pytest
import torch

from attnchain_evals.bench import names
from attnchain_evals.bench.names import check_settings
from attnchain_interp import AttentionError, MultiBounce, RandomRanking, TokenRank


def test_names() -> None:
    specs = ["class column", "TransitionAttentionMaps(steps=2)", "LeGrad", "GMAR"]
    built = names.build_methods(specs, torch.nn.Linear(1, 1), (2, 2))
    holds = [method.forward_func is not None for method in built.values()]
    assert holds == [False, True, True, False], "those that read more than maps and one backward hold the model"
    assert built["class column"].select == "column"
    spec = "TokenRank(balanced=True, layer_weights='late', maps='alti')"
    method = names.build_methods([spec], None, (2, 2))[spec]
    assert (method.balanced, method.layer_weights, method.captured_maps) == (True, "late", "alti")
    assert built["TransitionAttentionMaps(steps=2)"].forward_func is not None
    several = names.build_methods(
        ["FeatureAblation", "KernelShap(n_samples=9)", "ShapleyValueSampling", "IntegratedGradients", "AttnLRP", "GradELLM",
         *names.CONTROLS], torch.nn.Linear(1, 1), (2, 2))  # fmt: skip
    assert [type(method).__name__ for method in several.values()] == [
        *("LeaveOneOut", "ShapleyValues", "ShapleyValues", "IntegratedGradients", "AttnLRP", "GradELLM"),
        *("InputMagnitude", "CentrePrior", "FeatureComponent"),
    ]
    assert (several["KernelShap(n_samples=9)"].method, several["KernelShap(n_samples=9)"].n_samples) == ("kernel", 9)
    with pytest.raises(AttentionError, match="'centre prior' is a control for images, not for texts"):
        names.build_methods(["centre prior"], torch.nn.Linear(1, 1), None)
    for spec, message in (
        ("TokenRank(speed=1)", "has no setting 'speed'"),
        ("Nothing", "is unknown.\nUse one of"),
        ("TokenRank(1)", "must have names"),
        ("TokenRank(damping=x)", r"is not understood \(a setting is no number and no text in quotes\)"),
    ):
        with pytest.raises(AttentionError, match=message):
            names.build_methods([spec], torch.nn.Linear(1, 1), (2, 2))
    with pytest.raises(AttentionError, match="metric 'speed' is unknown"):
        names.build_metrics(["speed"])


def test_settings_that_a_class_takes() -> None:
    check_settings("x", TokenRank, {"damping": 1, "heads": [0, 1], "layers": -1, "maps": None, "layer_weights": "late"})
    check_settings("x", RandomRanking, {})


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (MultiBounce, {"steps": "a"}, "steps is 'a'; it must be a valid integer.\nThe default is"),
        (MultiBounce, {"steps": 1.5}, "steps is 1.5; it must be a valid integer"),
        (TokenRank, {"direction": "left"}, "direction is 'left'; it must be 'incoming' or 'outgoing'"),
        (TokenRank, {"layers": {}}, "layers is {}; it must be "),
        (RandomRanking, {"maps": "alti"}, "has no setting 'maps'.\nIts settings are seed, tokens"),
        (TokenRank, {"forward_func": None}, "has no setting 'forward_func'"),
    ],
)
def test_other_settings_are_refused_with_those_that_are_allowed(kind: type, settings: dict, said: str) -> None:
    with pytest.raises(AttentionError) as refusal:
        check_settings("x", kind, settings)
    assert said in str(refusal.value)
