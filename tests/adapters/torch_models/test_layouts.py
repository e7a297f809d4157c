"""Layouts of text and images, and calls whose tokens cannot be the model's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.torch_models.layouts import batch_of, image_layout, layout_of, sequences_given
from attnchain_adapters.torch_models.survey import Use

IMAGES = torch.zeros(2, 3, 32, 32)


def use(tokens: int, batch: int = 2, **options: Any) -> Use:
    return Use("blocks.0", "Own", 0, shape=(batch, 3, tokens, tokens), **options)


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        (16, "TokenLayout.image(grid=(4, 4)))"),
        (17, "TokenLayout.image(grid=(4, 4), class_token=True))"),
        (21, "TokenLayout.image(grid=(4, 4), prefix=[ac.Role.CLASS, ac.Role.REGISTER, ac.Role.REGISTER"),
        (65, "TokenLayout.image(grid=(8, 8), class_token=True))"),
    ],
)
def test_an_image_needs_a_layout_and_the_message_writes_it(tokens: int, line: str) -> None:
    with pytest.raises(ac.AttentionError) as refused:
        layout_of(use(tokens), 2, [IMAGES], "Own", None)
    assert f"nothing says where the {tokens} tokens of layer 'blocks.0' lie" in str(refused.value)
    assert f"Write reading=ac.Reading(tokens=ac.{line}" in str(refused.value)


def test_a_layout_of_one_image_stands_for_a_batch() -> None:
    said = ac.TokenLayout.image(grid=(4, 4), class_token=True)
    layout = layout_of(use(17), 2, [IMAGES], "Own", said)
    assert (layout.batch, layout.grid, layout.class_token) == (2, (4, 4), 0)
    with pytest.raises(ac.AttentionError, match=r"(?s)layout has 17 tokens .* attends to 65 in a batch of 2.*grid=\(8, 8\)"):
        layout_of(use(65), 2, [IMAGES], "Own", said)


@pytest.mark.parametrize("size", [(64, 96), (70, 100), (96, 64)])
def test_rows_and_columns_that_are_exchanged_are_warned_of(size: tuple[int, int]) -> None:
    images, grid, turned = torch.zeros(2, 3, *size), (size[0] // 16, size[1] // 16), (size[1] // 16, size[0] // 16)
    assert layout_of(use(24), 2, [images], "Own", ac.TokenLayout.image(grid=grid)).grid == grid
    with pytest.warns(UserWarning, match=rf"(?s)rows, columns.*write grid={re.escape(str(grid))}"):
        assert layout_of(use(24), 2, [images], "Own", ac.TokenLayout.image(grid=turned)).grid == turned
    for other in ((8, 3), (3, 8), (2, 12)):  # patches that are no squares
        assert layout_of(use(24), 2, [images], "Own", ac.TokenLayout.image(grid=other)).grid == other


def test_a_layout_of_one_image_does_not_stand_for_windows() -> None:
    said = ac.TokenLayout.image(grid=(4, 4))
    with pytest.raises(ac.AttentionError, match="(?s)within a batch of 8, .* windows or frames .*of batch 8"):
        layout_of(use(16, batch=8), 8, [IMAGES], "Own", said)
    assert layout_of(use(16, batch=8), 8, [IMAGES], "Own", said.fitted(8, 16)).batch == 8
    with pytest.raises(ac.AttentionError, match="(?s)windows or frames .*Choose layers that attend to the whole"):
        layout_of(use(16, batch=16, folded=True, heads=2), 8, [IMAGES], "Own", said)


@pytest.mark.parametrize(
    ("given", "tokens", "fix"),
    [
        ([IMAGES], 18, "(4, 4), prefix=[ac.Role.CLASS, ac.Role.REGISTER])), if the 2 other tokens come first."),
        ([IMAGES, torch.zeros(2, 10)], 10, "Write reading=ac.Reading(tokens=ac.TokenLayout.text())."),
        (
            [IMAGES, torch.zeros(2, 16)],
            16,
            "TokenLayout.text()) or reading=ac.Reading(tokens=ac.TokenLayout.image(grid=(4, 4))).",
        ),
        ([torch.zeros(2, 1, 16, 16, 16)], 9, "with the role of each token: roles (1, 9)."),
        ([torch.zeros(2, 10)], 13, "roles (1, 13). If all are text: ac.TokenLayout.text()."),
        ([], 7, "roles (1, 7)."),
    ],
)
def test_tokens_that_are_not_those_of_a_given_text_need_a_layout(given: list[Tensor], tokens: int, fix: str) -> None:
    with pytest.raises(ac.AttentionError, match="nothing says where") as refused:
        layout_of(use(tokens), 2, given, "Own", None)
    assert str(refused.value).endswith(fix)


def test_without_images_tokens_are_text() -> None:
    ids = torch.zeros(2, 5, dtype=torch.long)
    absent = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    assert layout_of(use(5), 2, [ids], "Own", None).roles.tolist() == [[3] * 5] * 2
    assert torch.equal(layout_of(use(5, padded=True, absent=absent), 2, [ids], "Own", None).mask, ~absent)
    with pytest.raises(ac.AttentionError, match="(?s)no attention at all, as padding.*TokenLayout.text.attention_mask"):
        layout_of(use(5, padded=True), 2, [ids], "Own", None)
    with pytest.raises(ac.AttentionError, match="(?s)within a batch of 4, and the model was given .2, 5.*of batch 4"):
        layout_of(use(5, batch=4), 4, [ids], "Own", None)


@pytest.mark.parametrize(
    ("given", "batch", "tokens", "text"),
    [
        ((2, 7, 8), 2, 7, True),
        ((7, 2, 8), 2, 7, True),  # tokens come first
        ((7, 8), 1, 7, True),  # one sequence, without a batch
        ((2, 7, 8), 2, 2, False),  # as many latent queries as examples
        ((3, 7, 8), 1, 3, False),  # from example to example
        ((7, 7, 8), 1, 7, False),
    ],
)
def test_tokens_are_those_of_a_sequence_with_its_examples(given: tuple[int, ...], batch: int, tokens: int, text: bool) -> None:
    if text:
        assert layout_of(use(tokens, batch), batch, [torch.zeros(given)], "Own", None).batch == batch
        return
    with pytest.raises(ac.AttentionError, match=f"nothing says where the {tokens} tokens of layer"):
        layout_of(use(tokens, batch), batch, [torch.zeros(given)], "Own", None)


def test_the_batch_of_a_folded_map() -> None:
    ids = torch.zeros(2, 5, dtype=torch.long)
    assert batch_of(use(5, batch=6), [ids], None) == 6
    assert batch_of(use(5, batch=6, folded=True), [ids], None) == 2
    assert batch_of(use(5, batch=16, folded=True, heads=2), [ids], None) == 8, "windows are not heads"
    assert batch_of(use(5, batch=6, folded=True, heads=4), [ids], None) == 2, "not the heads of this map"
    assert batch_of(use(5, batch=6, folded=True), [], ac.TokenLayout.text(torch.ones(3, 5))) == 3
    assert batch_of(use(5, batch=6, folded=True), [], ac.TokenLayout.text()) == 6


def test_only_torchvisions_model_sees_images() -> None:
    assert image_layout(nn.Linear(2, 2), (torch.zeros(1, 3, 8, 8),), {}) is None


def test_flags_and_masks_are_no_sequences() -> None:
    ids, mask, flag = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), torch.tensor(1)
    assert [tensor is ids for tensor in sequences_given([ids, mask, flag, None, "text"])] == [True]


def test_inputs_within_lists_and_dictionaries_count() -> None:
    image, ids = torch.zeros(3, 8, 8), torch.zeros(2, 3, dtype=torch.long)
    found = sequences_given([[{"image": image, "size": (8, 8)}, image], {"ids": ids, "states": image}])
    assert [tuple(tensor.shape) for tensor in found] == [(1, 3, 8, 8), (1, 3, 8, 8), (2, 3), (3, 8, 8)]
