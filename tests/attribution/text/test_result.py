"""The result under Captum's plots."""

from __future__ import annotations

import matplotlib as mpl

import attnchain_interp as ac

from .. import small_models as small
from .texts import DECODER, TEXT

mpl.use("Agg")


def test_captums_plots() -> None:
    result = ac.MultiBounce(small.llama()).attribute_text(TEXT, "a dog", DECODER)
    figure, axes = result.plot_token_attr()  # type: ignore[misc]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "dog"]
    assert figure.get_axes()
    _, axes = result.plot_seq_attr()  # type: ignore[misc]
    assert len(axes.patches) == 2 * 9
    assert result.input_labels[1:7] == ["the (1)", "cat", "##s", "sat", "on", "the (6)"]
    assert list(result.seq_attr_dict) == result.input_labels
    assert list(result.seq_attr_dict.values()) == result.seq_attr.tolist()
