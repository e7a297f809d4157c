"""Images whose tokens stand in a text: a batch is divided with its images, and rows of a text bring theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.attribution import GradientAttention, IntegratedGradients, LeaveOneOut, LeGrad, ShapleyValues
from attnchain_interp.attribution.images_in_text import are_of_images, pixels_of_examples

from . import small_models as small

TEXT: Any = {"target": (-1, 7), "output": "tokens", "reading": ac.Reading(tower="text")}


def scores(method: Any, given: dict[str, Any], **options: Any) -> torch.Tensor:
    named = {name: value for name, value in given.items() if name != "input_ids"}
    return method.attribute(given["input_ids"], model_kwargs=named, **TEXT, **options)


@pytest.mark.parametrize("made", [
    ac.TokenRank, GradientAttention, LeGrad, LeaveOneOut, lambda model: ShapleyValues(model, n_samples=2),
    lambda model: IntegratedGradients(model, n_steps=3),
])  # fmt: skip
def test_images_of_other_sizes_in_one_sequence_of_patches(made: Any) -> None:
    """Texts of a batch score as they do alone, also one by one."""
    model = small.qwen_vl()
    alone = small.texts_with_images([(4, 4), (2, 4)])
    together = {name: torch.cat([each[name] for each in alone]) for name in alone[0]}
    expected = torch.cat([scores(made(model), each) for each in alone])
    for size in (None, 1):
        assert torch.allclose(scores(made(model), together, internal_batch_size=size), expected, rtol=1e-6, atol=1e-9)


def test_a_token_is_left_out_with_the_places_of_the_others() -> None:
    """An oracle passes the positions of the whole text beside the mask."""
    model, (given,) = small.qwen_vl(), small.texts_with_images([(4, 4)])
    ids, kinds, grid = given["input_ids"], given["mm_token_type_ids"], given["image_grid_thw"]
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
    found = scores(LeaveOneOut(model, score="logit"), given)

    def logit(mask: torch.Tensor) -> torch.Tensor:
        return model(**given, attention_mask=mask, position_ids=positions).logits[0, -1, 7]

    for token in range(1, ids.shape[1]):  # the first alone attends to itself alone
        mask = torch.ones_like(ids)
        mask[0, token] = 0
        with torch.no_grad():
            expected = logit(torch.ones_like(ids)) - logit(mask)
        assert torch.allclose(found[0, token], expected, rtol=1e-4, atol=1e-8)


def test_pixels_of_some_examples() -> None:
    patches, grids = torch.arange(14.0)[:, None], torch.tensor([[1, 2, 2], [1, 2, 4], [2, 1, 1]])
    given = {"pixel_values": patches, "image_grid_thw": grids}
    assert pixels_of_examples(given, 3, 1, 1)["pixel_values"].flatten().tolist() == list(range(4, 12))
    assert pixels_of_examples(given, 3, 1, 2)["pixel_values"].flatten().tolist() == list(range(4, 14))
    assert pixels_of_examples(given, 3, 0, 3) == pixels_of_examples({"pixel_values": patches}, 3, 1, 1) == {}
    with pytest.raises(ac.AttentionError, match="image_grid_thw holds 3 of 2 examples, which are taken 1 at a time"):
        pixels_of_examples(given, 2, 0, 1)


def test_images_of_a_text_and_images_beside_texts() -> None:
    assert are_of_images(small.llava(), "pixel_values")
    assert not are_of_images(small.llava(), "attention_mask")
    assert not are_of_images(small.two_towers("CLIP"), "pixel_values")
