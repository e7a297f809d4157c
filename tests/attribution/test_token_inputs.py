"""The embeddings of a model's tokens, and scores of a grid at the patches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.attribution.token_inputs import changed_embeddings, embedding_of, module_inside, on_patches

from . import small_models as small


def test_embeddings_are_changed_while_open() -> None:
    model, ids = small.bert(), small.ids()
    zeros = torch.zeros(2, 7, 48).double()
    with changed_embeddings(model, lambda given: given * 0):
        assert torch.equal(model(ids).logits, model(inputs_embeds=zeros).logits)
    assert not torch.allclose(model(ids).logits, model(inputs_embeds=zeros).logits)
    with pytest.raises(ValueError, match="stop"), changed_embeddings(model, lambda given: given * 0):
        raise ValueError("stop")
    assert not embedding_of(model)._forward_hooks


def test_scores_of_a_grid_lie_at_the_patches() -> None:
    tokens = ac.TokenLayout.image(2, (1, 2), class_token=True)
    cells = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert on_patches(tokens, cells).tolist() == [[0, 1, 2], [0, 3, 4]]


def test_the_module_of_a_source() -> None:
    model = small.vit()
    assert module_inside(model) is model
    assert module_inside(model.forward_features) is model
    assert module_inside(torch.compile(model)) is model
    with pytest.raises(ac.AttentionError, match="the method needs a model; got function"):
        module_inside(lambda images: images)
    with pytest.raises(ac.AttentionError, match="Linear has no get_input_embeddings"):
        embedding_of(nn.Linear(2, 2))
