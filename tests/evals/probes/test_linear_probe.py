from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import attnchain_interp as ac
from attnchain_evals import ClassFolder, LinearProbe, perturbation_curve
from attnchain_evals.probes.backbone import backbone_of, identity_of, places_of
from attnchain_evals.probes.linear_probe import STRENGTHS
from attnchain_evals.tasks.digest import model_identity, sha256

from .vits import COLOURS, dino, preprocess, timm_vit, write_colours

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def data(folder: Path, **settings: Any) -> tuple[ClassFolder, ClassFolder]:
    write_colours(folder, **settings)
    return ClassFolder(folder / "train", preprocess), ClassFolder(folder / "validation", preprocess)


@pytest.mark.parametrize("names", [["blue", "red"], list(COLOURS)])
def test_the_probe_is_the_pipeline_of_scikit_learn(tmp_path: Path, names: list[str]) -> None:
    """Standardised features and a logistic regression, written out; two classes are one logit to scikit-learn."""
    train, validation = data(tmp_path, names=names)
    model: Any = dino()
    probe = LinearProbe.fit(model, train, validation, pooling="class+mean")
    with torch.no_grad():
        features = [
            np.concatenate([hidden[:, 0].numpy(), hidden[:, 1:].mean(1).numpy()], 1)
            for part in (train, validation)
            for hidden in [model(torch.stack([each.image for each in part])).last_hidden_state]
        ]
    shown, held = (part.astype(float) for part in features)
    fits: list[Any] = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)) for strength in STRENGTHS
    ]
    losses = [log_loss(validation.labels, fit.fit(shown, train.labels).predict_proba(held)) for fit in fits]
    best = int(np.argmin(losses))
    assert probe.record["C"] == STRENGTHS[best]
    assert probe.record["accuracy"]["validation"] == pytest.approx(fits[best].score(held, validation.labels))
    with torch.no_grad():
        found = probe(torch.stack([each.image for each in validation])).softmax(1).numpy()
    np.testing.assert_allclose(found, fits[best].predict_proba(held), atol=1e-4)
    assert probe.classes == tuple(sorted(names))


@pytest.mark.parametrize("model", [dino(), dino(head=True), timm_vit()], ids=lambda model: type(model).__name__)
def test_methods_read_the_backbone_inside(model: nn.Module, tmp_path: Path) -> None:
    probe = LinearProbe.fit(model, *data(tmp_path))
    store, inner = ac.capture(probe, IMAGES), ac.capture(backbone_of(model), IMAGES)
    torch.testing.assert_close(store.maps(), inner.maps())
    assert store.tokens.grid == (4, 4)
    target = torch.tensor([0, 2])
    for method in (ac.TokenRank(probe), ac.GradientAttention(probe), ac.LeGrad(probe), ac.ExpectedVisits(probe)):
        scores = method.attribute(IMAGES, target=target, output="grid")
        assert scores.shape == (2, 4, 4)
        assert scores.isfinite().all()
    first, second = (ac.GradientAttention(probe).attribute(IMAGES, target=t, output="grid") for t in (0, 1))
    assert not torch.allclose(first, second), "classes are those of the probe"
    if not isinstance(model, type(timm_vit())):
        curve = perturbation_curve(probe, IMAGES, torch.rand(2, 4, 4), 1, occlusion="token-drop", fractions=4)
        assert curve.scores.isfinite().all()


def test_a_kept_probe_is_the_same(tmp_path: Path) -> None:
    probe = LinearProbe.fit(dino(), *data(tmp_path / "images"))
    probe.write(tmp_path / "probe")
    again = LinearProbe.read(tmp_path / "probe", dino(head=True), IMAGES[:1])
    with torch.no_grad():
        assert torch.equal(again(IMAGES), probe(IMAGES))
    assert again.record == probe.record
    assert "3 classes, pooling='class', accuracy 1.000" in repr(again)
    assert model_identity(again) == model_identity(probe)
    mean = LinearProbe(probe.backbone, places_of(probe.backbone, IMAGES[:1]), probe.head, probe.record | {"pooling": "mean"})
    assert model_identity(mean) != model_identity(probe)


def test_what_is_refused(tmp_path: Path) -> None:
    train, validation = data(tmp_path / "images")
    probe = LinearProbe.fit(dino(), train, validation)
    probe.write(tmp_path / "probe")
    own, other = (identity_of(dino(seed=seed))["sha256"] for seed in (0, 1))
    with pytest.raises(ac.AttentionError, match=f"was trained on Dinov2Model .*{own}, and .* is Dinov2Model .*{other}"):
        LinearProbe.read(tmp_path / "probe", dino(seed=1), IMAGES[:1])
    with pytest.raises(ac.AttentionError, match="holds no probe"):
        LinearProbe.read(tmp_path / "images", dino(), IMAGES[:1])
    record = json.loads((tmp_path / "probe" / "probe.json").read_text())
    (tmp_path / "probe" / "probe.json").write_text(json.dumps(record | {"sha256": "0"}))
    with pytest.raises(ac.AttentionError, match=r"probe\.safetensors has the sha256 .*; probe\.json names 0"):
        LinearProbe.read(tmp_path / "probe", dino(), IMAGES[:1])
    (tmp_path / "probe" / "probe.json").write_text(json.dumps({"schema": "attnchain-probe/0"}))
    with pytest.raises(ac.AttentionError, match="is not of the schema attnchain-probe/1"):
        LinearProbe.read(tmp_path / "probe", dino(), IMAGES[:1])
    (few,) = (ClassFolder(write_colours(tmp_path / "few", ("train",), ["red"]) / "train", preprocess),)
    with pytest.raises(ac.AttentionError, match="all images to train on are of the class red"):
        LinearProbe.fit(dino(), few, few)
    with pytest.raises(
        ac.AttentionError, match="no images to train on are of the classes blue, green, which the validation has"
    ):
        LinearProbe.fit(dino(), few, validation)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": None}, "classes: Field required"),
        ({"classes": ["red"]}, "classes: List should have at least 2 items"),
        ({"classes": ["a", "b"]}, r"weights of .*\(3, 24\).* for 2 classes"),
        ({"backbone": {"class": "Dinov2Model"}}, "backbone.sha256: Field required"),
        ({"data": []}, "data: Input should be"),
        ({"accuracy": None}, "accuracy: Field required"),
        ({"pooling": "most"}, "pooling: Input should be 'class'"),
        ({"pooling": "class+mean"}, "24 weights of a class, and 48 features by the pooling 'class\\+mean'"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    LinearProbe.fit(dino(), *data(tmp_path / "images")).write(tmp_path / "probe")
    record = json.loads((tmp_path / "probe" / "probe.json").read_text()) | changes
    held = {name: value for name, value in record.items() if value is not None}
    (tmp_path / "probe" / "probe.json").write_text(json.dumps(held))
    with pytest.raises(ac.AttentionError, match=f"(?s)holds a damaged probe .*{said}.*Train another probe"):
        LinearProbe.read(tmp_path / "probe", dino(), IMAGES[:1])


def test_weights_of_another_format_are_refused(tmp_path: Path) -> None:
    LinearProbe.fit(dino(), *data(tmp_path / "images")).write(tmp_path / "probe")
    weights = tmp_path / "probe" / "probe.safetensors"
    weights.write_bytes(b"no tensors")
    record = json.loads((tmp_path / "probe" / "probe.json").read_text()) | {"sha256": sha256(weights)}
    (tmp_path / "probe" / "probe.json").write_text(json.dumps(record))
    with pytest.raises(ac.AttentionError, match=r"holds a damaged probe \(probe\.safetensors"):
        LinearProbe.read(tmp_path / "probe", dino(), IMAGES[:1])
