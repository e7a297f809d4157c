"""Heads × tokens of a text: each row in its place, sinks out of the scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures


def store(causal: bool, labels: list[str] | None = None, norms: torch.Tensor | None = None) -> ac.AttentionStore:
    """Two examples, two layers, three heads, four tokens; the last token of the second example is padding."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    logits = torch.randn(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64).masked_fill(
        mask[:, None, None] == 0, -torch.inf
    )
    if causal:
        logits = logits.masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
    layout = ac.TokenLayout.text(mask, [labels or list("abcd")] * 2)
    maps = logits.softmax(-1)
    layers = [ac.LayerAttention(f"layer.{k}", each, value_norms=norms) for k, each in enumerate(maps)]
    return ac.AttentionStore(layers, layout)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("order", ["head", "lambda2"])
def test_each_head_has_its_row(causal: bool, order: str) -> None:
    taken = store(causal)
    figure = ac.show_heads(taken, order=order, example=1)  # type: ignore[arg-type]
    drawn, beside = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:2])
    assert drawn.shape == (6, 3)
    for k, layer in enumerate(taken):
        found = ac.mixing(taken.chain(layer.name, "each", tokens="all"))
        second = found.second_eigenvalue[1].numpy()
        heads = np.argsort(-second) if order == "lambda2" else np.arange(3)
        scores = layer.maps[1, :, 2] if causal else found.stationary[1]
        assert np.allclose(drawn[3 * k : 3 * k + 3], scores.numpy()[heads, :3], atol=1e-6)
        assert np.allclose(beside[3 * k : 3 * k + 3, 0], second[heads], atol=1e-6)
        numbers = [label.get_text() for label in figure.axes[0].get_yticklabels(minor=True)][3 * k : 3 * k + 3]
        assert numbers == [str(head) for head in heads], "a reader sees which head a row is"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == taken.names
    read = "attention of the last token" if causal else "TokenRank"
    assert figure.axes[0].get_title().startswith(read)


def test_labels_without_marks_of_bytes_and_one_layer() -> None:
    figure = pictures.show_heads(store(True, ["<s>", "Ġcat", "Ġsat", "Ċ"]), layers=-1)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["<s>", "cat", "sat", "↵"]
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (3, 4)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["ðŁ", "ĺĢ", "Ġna", "Ã¯ve"], ["ðŁ", "😀", "na", "ïve"]),
        (["A", "Ġ", "Ċ", "Ġcat"], ["A", "␣", "↵", "cat"]),
        (["▁A", "▁lion", "s", "▁"], ["A", "lion", "s", "␣"]),
        (["un", "##like", "me", "."], ["un", "like", "me", "."]),
    ],
)
def test_labels_are_the_texts_of_the_tokens(labels: list[str], shown: list[str]) -> None:
    figure = pictures.show_heads(store(True, labels), layers=-1)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == shown


@pytest.mark.parametrize("length", [4, 30])
def test_long_labels_leave_the_rows_beside_each_other(length: int) -> None:
    figure = ac.show_heads(store(True, ["m" * length, "b", "c", "d"]), 0)
    figure.draw_without_rendering()
    heads, beside = (axis.get_position() for axis in figure.axes[:2])
    assert (heads.y0, heads.y1) == pytest.approx((beside.y0, beside.y1), abs=1e-3)
    assert heads.height * figure.get_figheight() > 0.2


def test_patches_within_a_text() -> None:
    """A decoder that sees: its patches have no grid of their own, and stand in the row like words."""
    plain = store(True)
    layout = ac.TokenLayout(
        plain.tokens.roles.index_fill(1, torch.tensor([1, 2]), int(ac.Role.PATCH)), labels=plain.tokens.labels
    )
    drawn, expected = (
        np.asarray(pictures.show_heads(each, example=1).axes[0].images[0].get_array())
        for each in (ac.AttentionStore(list(plain), layout), plain)
    )
    assert np.array_equal(drawn, expected)


def test_sinks_are_red_and_out_of_the_scale() -> None:
    maps = torch.full((1, 2, 4, 4), 0.05, dtype=torch.float64)
    maps[..., 0] = 0.85
    norms = torch.tensor([0.01, 1, 1, 1]).expand(1, 2, 4)
    layout = ac.TokenLayout.text(torch.ones(1, 4), [list("abcd")])
    figure = pictures.show_heads(ac.AttentionStore([ac.LayerAttention("one", maps, value_norms=norms)], layout))
    assert [label.get_color() for label in figure.axes[0].get_xticklabels()] == ["#D55E00", "black", "black", "black"]
    assert figure.axes[0].images[0].norm.vmax == pytest.approx(0.05, rel=0.1)
    assert "attention sink: token 0 'a'" in figure.get_supxlabel()


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="example 2 does not exist"):
        pictures.show_heads(store(True), example=2)
    with pytest.raises(ac.AttentionError, match="order='slow' is unknown"):
        pictures.show_heads(store(True), order="slow")  # type: ignore[arg-type]
