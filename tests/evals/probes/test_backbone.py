from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer as Torchvision

from attnchain_evals.probes.backbone import Places, backbone_of, identity_of, places_of, tokens_of
from attnchain_interp import AttentionError

from .vits import dino, timm_vit

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_head_goes_and_the_tokens_stay() -> None:
    whole: Any = timm_vit()
    tokens = tokens_of(backbone_of(whole), IMAGES)
    torch.testing.assert_close(tokens, whole.forward_features(IMAGES))
    assert whole(IMAGES).shape == (2, 7), "the model is left as it was"
    classifier: Any = dino(head=True)
    torch.testing.assert_close(tokens_of(backbone_of(classifier), IMAGES), classifier.dinov2(IMAGES).last_hidden_state)


@pytest.mark.parametrize(
    ("model", "places"),
    [
        (dino(), Places(0, 1)),
        (timm_vit(reg_tokens=3), Places(0, 4)),
        (timm_vit(class_token=False, global_pool="avg"), Places(None, 0)),
    ],
)
def test_places_of_class_token_and_patches(model: nn.Module, places: Places) -> None:
    assert places_of(backbone_of(model), IMAGES[:1]) == places


def test_features() -> None:
    tokens, places = torch.rand(2, 6, 3), Places(0, 2)
    mean = tokens[:, 2:].mean(1)
    assert torch.equal(places.features(tokens, "class"), tokens[:, 0])
    assert torch.equal(places.features(tokens, "mean"), mean)
    assert torch.equal(places.features(tokens, "class+mean"), torch.cat([tokens[:, 0], mean], 1))
    assert (places.pooling(None), Places(None, 0).pooling(None)) == ("class", "mean")


def test_an_identity_is_of_the_backbone_alone() -> None:
    assert identity_of(backbone_of(dino(head=True)))["class"] == "Dinov2Model"
    one, other = timm_vit(), timm_vit()
    nn.init.normal_(other.get_parameter("head.weight"))
    assert identity_of(backbone_of(one)) == identity_of(backbone_of(other)), "the head does not count"
    nn.init.normal_(other.get_parameter("norm.weight"))
    assert identity_of(backbone_of(one)) != identity_of(backbone_of(other))


def test_what_is_refused() -> None:
    with pytest.raises(AttentionError, match="pooling='class\\+mean' reads a class token, and the backbone has none"):
        Places(None, 0).pooling("class+mean")
    with pytest.raises(AttentionError, match="pooling='max' is unknown"):
        Places(0, 1).pooling("max")  # type: ignore[arg-type]
    whole = Torchvision(
        image_size=16, patch_size=4, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=24, num_classes=3
    ).eval()
    with pytest.raises(
        AttentionError, match=r"VisionTransformer returns shape \(2, 3\); a probe needs \(batch, token, width\)"
    ):
        tokens_of(backbone_of(whole), IMAGES)
