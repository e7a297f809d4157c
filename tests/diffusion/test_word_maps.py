"""The tokens of words, as tokenizers split and mark them.

From a word to a region, on chains small enough to walk by hand.
"""

from __future__ import annotations

import logging

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import diffusion

PATCHES = ac.TokenLayout.image(1, (1, 2))
TEXT = ac.TokenLayout(torch.full((1, 3), int(ac.Role.TEXT)), labels=[["a", "cor", "gi"]])


def layout(*labels: str) -> ac.TokenLayout:
    return ac.TokenLayout(torch.full((1, len(labels)), int(ac.Role.TEXT)), labels=[[*labels]])


@pytest.mark.parametrize(
    ("labels", "word", "expected"),
    [
        (["▁a", "▁cor", "gi", "</s>"], "corgi", [1, 2]),
        (["<s>", "a</w>", "cor", "gi</w>", "</s>"], "Corgi", [2, 3]),
        (["a", "cor", "##gi", "and", "cor", "##gi"], "corgi", [1, 2, 4, 5]),
        (["▁a", "▁great", "▁white", "▁shark", "</s>"], "great white shark", [1, 2, 3]),
        (["▁a", "▁", "zebra", "</s>"], "zebra", [2]),
        (["▁a", "▁red", "▁", "zebra", "</s>"], "red zebra", [1, 2, 3]),
        (["▁a", "▁shark", "", ""], "shark", [1]),
        (["<s>", "hot", "dog</w>", "and</w>", "dog</w>", ",</w>", "</s>"], "dog", [4]),
        (["▁hot", "dog", ",", "▁dog", "."], "dog", [3]),
        (["cat", "##alog", "con", "##cat", "cat", "[SEP]"], "cat", [4]),
        (["dog", "house", "Ġdog", "!"], "dog", [2]),
        (["dog</w>", "hot", "dog</w>", "<|endoftext|>", "▁dog", "▁hot", "dog", "</s>", "<pad>"], "dog", [0, 4]),
        (["▁hot", "dog", "</s>"], "dog", [1]),
        (["<s>", "cafÃ©</w>", "bar</w>"], "Café", [1]),
        (["<s>", "na", "Ã", "¯", "ve</w>", "</s>"], "naïve", [1, 2, 3, 4]),
        (["<s>", "Ð¸</w>", "ÑģÐ¾Ð±Ð°ÐºÐ°</w>"], "собака", [2]),
        (["<s>", "caf▁", "▁café", "</s>"], "café", [2]),
    ],
)
def test_all_tokens_of_every_place(labels: list[str], word: str, expected: list[int]) -> None:
    assert diffusion.tokens_of_word(layout(*labels), word) == expected


def test_a_split_word_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "attnchain_interp"):
        diffusion.tokens_of_word(layout("▁a", "▁cor", "gi"), "corgi")
    assert "'corgi' is 2 tokens; all are used" in caplog.text


def test_what_is_not_there_is_refused() -> None:
    for word in ("cat", "", "great white"):
        with pytest.raises(ac.AttentionError, match="is not among the tokens of the prompt: ▁a ▁white ▁shark"):
            diffusion.tokens_of_word(layout("▁a", "▁white", "▁shark", ""), word)


def joint() -> ac.AttentionStore:
    """Text "a cor gi" and two patches in one sequence."""
    roles = torch.cat([TEXT.roles, PATCHES.roles], 1)
    rows = [[0.2] * 5, [0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1.0], [0.5, 0.1, 0.1, 0.1, 0.2], [0, 0.3, 0, 0.3, 0.4]]
    assert TEXT.labels
    layout = ac.TokenLayout(roles, (1, 2), [[*TEXT.labels[0], "", ""]])
    return ac.AttentionStore.from_maps([torch.tensor(rows)[None, None]], layout)


def test_in_one_sequence() -> None:
    P = joint().maps()[0, 0, 0].double()
    start = torch.tensor([0, 0.5, 0.5, 0, 0]).double()
    back = (P / P.sum(0)).T
    for steps in (1, 2, 3):
        for direction, matrix in (("incoming", P), ("outgoing", back)):
            expected = (start @ torch.linalg.matrix_power(matrix, steps))[3:]
            found = diffusion.word_map(joint(), "corgi", steps=steps, direction=direction)  # type: ignore[arg-type]
            torch.testing.assert_close(found, expected.float().view(1, 1, 2))


def test_each_example_starts_at_its_own_words() -> None:
    roles = torch.tensor([[int(ac.Role.TEXT)] * 2 + [int(ac.Role.PATCH)] * 2] * 2)
    prompts = ac.TokenLayout(roles, (1, 2), [["a", "dog", "", ""], ["dog", "hat", "", ""]])
    P = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    expected = torch.stack([P[0, 0, 1, 2:], P[1, 0, 0, 2:]])[:, None]
    torch.testing.assert_close(diffusion.word_map(ac.AttentionStore.from_maps([P], prompts), "dog", steps=1), expected)

    own = ac.AttentionStore.from_maps([torch.full((2, 1, 2, 2), 0.5)], ac.TokenLayout.image(2, (1, 2)))
    text = ac.TokenLayout.text(labels=[["a", "dog"], ["dog", "hat"]])
    cross = ac.AttentionStore.from_maps([P[:, :, 2:, :2].softmax(-1)], text, queries=own.tokens)
    columns = torch.stack([cross.maps()[0, 0, 0, :, 1], cross.maps()[1, 0, 0, :, 0]])
    expected = (columns / columns.sum(-1, keepdim=True))[:, None]
    torch.testing.assert_close(diffusion.word_map(own, "dog", steps=1, cross=cross), expected)


def test_through_attention_to_the_text() -> None:
    own = ac.AttentionStore.from_maps([torch.tensor([[[[0.9, 0.1], [0.4, 0.6]]]])], PATCHES)
    heads = torch.tensor([[[[0.8, 0.1, 0.1], [0.4, 0.5, 0.1]], [[0.6, 0.3, 0.1], [0.6, 0.2, 0.2]]]])
    cross = ac.AttentionStore.from_maps([heads], TEXT, queries=PATCHES)
    columns = torch.tensor([(0.2 + 0.4) / 2, (0.6 + 0.4) / 2])
    first = columns / columns.sum()
    torch.testing.assert_close(diffusion.word_map(own, "corgi", steps=1, cross=cross), first.view(1, 1, 2))
    torch.testing.assert_close(
        diffusion.word_map(own, "corgi", steps=2, cross=cross), (first @ own.maps()[0, 0, 0]).view(1, 1, 2)
    )
    back = (own.maps()[0, 0, 0] / own.maps()[0, 0, 0].sum(0)).T
    torch.testing.assert_close(
        diffusion.word_map(own, "corgi", steps=2, direction="outgoing", cross=cross), (first @ back).view(1, 1, 2)
    )


def test_what_is_refused_says_why() -> None:
    own = ac.AttentionStore.from_maps([torch.full((1, 1, 2, 2), 0.5)], PATCHES)
    high = ac.TokenLayout.image(1, (2, 1))
    cross = ac.AttentionStore.from_maps([torch.full((1, 1, 2, 3), 1 / 3)], TEXT, queries=high)
    one = ac.AttentionStore.from_maps([torch.full((1, 1, 2, 3), 1 / 3)], TEXT, queries=PATCHES)
    two = ac.AttentionStore.from_maps([torch.full((2, 1, 2, 2), 0.5)], ac.TokenLayout.image(2, (1, 2)))
    for call, message in (
        (lambda: diffusion.word_map(joint(), "hat"), "'hat' is not among the tokens of the prompt: a cor gi"),
        (lambda: diffusion.word_map(joint(), None), "word is of type NoneType"),  # type: ignore[arg-type]
        (lambda: diffusion.word_map(joint(), "corgi", steps=0), "steps is 0; it is the number of steps of the walk"),
        (lambda: diffusion.word_map(own, "corgi"), "no labels"),
        (lambda: diffusion.word_map(two, "corgi", cross=one), "store holds the attention of 2 images, and cross that of 1"),
        (lambda: diffusion.word_map(own, "corgi", cross=cross), r"store is on the grid \(1, 2\), and cross on \(2, 1\)"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            call()
