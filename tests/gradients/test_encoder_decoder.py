"""Gradients of encoder, decoder and cross-attention. Those of real families: test_gradient_attention.py."""

from typing import Any

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.gradients import capture_encoder_decoder_gradients
from attnchain_interp.gradients.encoder_decoder import is_encoder_decoder


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Transformer(8, 2, 2, 2, 8, dropout=0, batch_first=True), nn.Linear(8, 5)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(source, target))


def test_every_layer_in_the_order_in_which_it_runs() -> None:
    torch.manual_seed(0)
    model: Any = Translator().eval()
    assert is_encoder_decoder(model)
    found = capture_encoder_decoder_gradients(model, torch.randn(1, 4, 8), torch.randn(1, 3, 8), target=(2, 1))
    kinds = [(kind, tuple(maps.shape[2:])) for kind, maps, _ in found]
    layer = [("decoder", (3, 3)), ("cross", (3, 4))]
    assert kinds == [("encoder", (4, 4))] * 2 + layer * 2
    assert all(gradients.any() for _, _, gradients in found)
    assert found.position is not None
    assert found.position.tolist() == [2]


def test_other_models_are_refused() -> None:
    model = nn.MultiheadAttention(8, 2)
    assert not is_encoder_decoder(model)
    with pytest.raises(ac.AttentionError, match="(?s)is not an encoder–decoder .*For one sequence use capture_gradients"):
        capture_encoder_decoder_gradients(model, target=0)
