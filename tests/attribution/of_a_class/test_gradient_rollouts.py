"""Rollouts that read gradients: the integral of transition attention maps, and refused arguments."""

from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac

from .. import small_models as small


def test_transition_attention_maps_beside_their_formula() -> None:
    model, images, target, steps = small.vit(3), small.images(), [3, 1], 5
    maps, _ = small.of_vit(model, images, target)
    integral = torch.stack([small.of_vit(model, images * k / 4, target)[1][-1] for k in range(steps)]).mean(0)
    state = maps[-1].mean(1)[:, :1]
    for A in reversed(maps[:-1]):
        state = state @ (A.mean(1) + torch.eye(7, dtype=A.dtype)) / 2
    expected = (state * integral.clamp(min=0).mean(1)[:, :1])[:, 0]
    scores = ac.TransitionAttentionMaps(model, steps=steps).attribute(images, target, output="tokens")
    assert torch.allclose(scores, expected, atol=1e-10)
    late = ac.TransitionAttentionMaps(model, steps=steps, layers=slice(2, None)).attribute(images, target, output="tokens")
    assert torch.allclose(late, (maps[-1].mean(1)[:, :1] * integral.clamp(min=0).mean(1)[:, :1])[:, 0], atol=1e-10)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match="norm='l3' is unknown"):
        ac.GMAR(norm="l3")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="steps is 1; it is the number of points of the integral from 0 to 1"):
        ac.TransitionAttentionMaps(steps=1)
    with pytest.raises(ac.AttentionError, match="inputs is torch.int64; the integral is over scaled inputs"):
        ac.TransitionAttentionMaps(small.bert()).attribute(small.ids(), 0)
