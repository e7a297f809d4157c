"""The call of the model alone, and scores at the tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.attribution import IntegratedGradients, LeaveOneOut
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_inputs import by_token, called, examples_of, module_inside, own_call, tower_of

from . import small_models as small


def test_attributions_are_summed_by_token() -> None:
    store = ac.AttentionStore.from_maps([torch.eye(3).expand(2, 1, 3, 3)], ac.TokenLayout.image(2, (1, 2), class_token=True))
    pixels = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    expected = torch.stack([torch.zeros(2), pixels[..., :2].sum((1, 2, 3)), pixels[..., 2:].sum((1, 2, 3))], 1)
    assert torch.allclose(by_token(pixels, store), expected)
    text = ac.AttentionStore.from_maps([torch.eye(3)[None, None]], ac.TokenLayout.text(torch.tensor([[1, 1, 0]])))
    assert by_token(torch.ones(1, 3, 5), text).tolist() == [[5, 5, 0]]
    with pytest.raises(ac.AttentionError, match="the model's tokens are 3 tokens"):
        by_token(torch.ones(1, 4, 5), text)
    text.metadata["input"] = "decoder"
    with pytest.raises(ac.AttentionError, match="of the tokens of the decoder, and inputs are others"):
        by_token(torch.ones(1, 3, 5), text)


def test_a_call_of_the_model_alone() -> None:
    model, ids, mask = small.bert(), small.ids(1), torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    expected = model(ids, attention_mask=mask).logits
    options = {"reading": ac.Reading(arguments={"attention_mask": mask})}
    for call in (Call(ids, extra=(mask,)), Call(ids, options=options), Call(ids, options={"attention_mask": mask})):
        own = own_call(model, call)
        assert torch.allclose(called(model, own, ids.expand(3, -1)).logits, expected.expand(3, -1))
        other = called(model, own, ids, attention_mask=torch.ones_like(ids)).logits
        assert torch.allclose(other, model(ids).logits)


def test_further_arguments_without_a_name_are_refused() -> None:
    """They were left out of the call, or named after the keywords."""

    class Around(torch.nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return small.bert()(*args, **kwargs)

    ids = small.ids(1)
    with pytest.raises(ac.AttentionError, match="(?s)holds 1; Around names 0 after its inputs.*model_kwargs="):
        own_call(Around(), Call(ids, extra=(ids > 0,)))
    assert own_call(Around(), Call(ids, options={"attention_mask": ids})).options == {"attention_mask": ids}


def test_the_tower_of_a_call() -> None:
    assert tower_of(Call(small.ids())) is None
    assert tower_of(Call(small.ids(), options={"reading": ac.Reading(tower="text")})) == "text"


def test_the_module_of_a_source() -> None:
    model = small.vit()
    assert module_inside(model) is model
    assert module_inside(model.forward_features) is model
    assert module_inside(torch.compile(model)) is model
    with pytest.raises(ac.AttentionError, match="the method needs a model; got function"):
        module_inside(lambda images: images)


def test_examples_have_scores_of_their_own() -> None:
    """`logits_per_text` (text, image) has a column for each image: that of image 0 belongs to the first text alone."""
    model, ids, images = small.two_towers("CLIP"), small.ids(2), torch.randn(2, 3, 16, 16).double()
    ids[:, -1] = 2
    options: Any = {"reading": ac.Reading(tower="text", arguments={"pixel_values": images})}
    whole = Call(ids, lambda output: output.logits_per_text.diagonal(), options=options)
    first, second = examples_of(model, whole)
    assert torch.equal(torch.cat([first.inputs, second.inputs]), ids)
    assert torch.equal(second.options["reading"].arguments["pixel_values"], images[1:])  # type: ignore[index]
    column = whole._replace(target=lambda output: output.logits_per_text[:, 0])
    assert torch.equal(next(examples_of(model, column)).inputs, ids[:1])
    with pytest.raises(ac.AttentionError, match="depends on the other examples of the batch"):
        list(examples_of(model, column))
    with pytest.raises(ac.AttentionError, match="depends on the other examples of the batch"):
        LeaveOneOut(model).attribute(ids, column.target, output="tokens", **options)
    shared = column._replace(options={"reading": ac.Reading(tower="text", arguments={"pixel_values": images[:1]})})
    assert len(list(examples_of(model, shared))) == 2


@pytest.mark.parametrize("method", [LeaveOneOut, partial(IntegratedGradients, n_steps=2)])
@pytest.mark.parametrize("target", [[1], [1, 2], torch.tensor([1, 2]), np.array([1, 2])])
def test_targets_are_as_many_as_the_examples(target: Any, method: Any) -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)inputs holds 3 examples.*a list of one for each of the 3 examples"):
        method(small.vit()).attribute(small.images(3), target)
