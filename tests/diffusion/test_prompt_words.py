"""The tokens of words, as tokenizers split and mark them."""

from __future__ import annotations

import logging

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import diffusion


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
