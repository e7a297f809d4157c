"""The result under Captum's plots."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import attribution
from attnchain_interp.attribution.text.spelling import Spelling

from .. import small_models as small
from .texts import DECODER, ENCODER, SEQ2SEQ, TEXT, bart

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


class Planted(ac.AttentionAttribution):
    """Attention that goes to the third token, whose values are short."""

    def score(self, store: ac.AttentionStore) -> Tensor:
        return self.chain(store).matrix.mean(1)

    def read(self, call: Any) -> ac.AttentionStore:
        store = super().read(call)
        logits = torch.zeros(store[0].attention.shape, dtype=torch.float64)
        logits[..., 2] = 3
        causal = torch.ones(logits.shape[-2:]).triu(1).bool() & store.causal
        maps, norms = logits.masked_fill(causal, -torch.inf).softmax(-1), torch.ones(logits.shape[:-1])
        norms[..., 2] = 0.1
        return ac.AttentionStore([ac.LayerAttention("planted", maps, value_norms=norms)], store.tokens)


class Started(Planted):
    """The same of a method that says that its walks start at the position that predicts."""

    def walks_from_position(self, begin: Any) -> bool:
        return True


@pytest.mark.parametrize("words", [False, True])
def test_attention_sinks_are_named_and_outlined(words: bool) -> None:
    result = Planted(small.llama()).attribute_text(TEXT, "a dog", DECODER)
    result = result.by_word() if words else result
    place = 2
    assert result.input_tokens[place] == ("cats" if words else "cat")
    assert list(result.sinks) == [place]
    assert result.sinks[place].startswith("takes ")
    assert f"{result.input_tokens[place]!r} is an attention sink: it takes" in repr(result)
    _, axes = result.plot_token_attr()  # type: ignore[misc]
    (outline,) = axes.patches
    assert (outline.get_x(), outline.get_width()) == (place - 0.5, 1)
    assert axes.get_xlabel().startswith(f"{result.input_tokens[place]!r} is an attention sink")
    _, axes = result.plot_seq_attr()  # type: ignore[misc]
    assert len(axes.patches) == 2 * len(result.input_tokens) + 1


def test_sinks_of_encoders_and_of_encoder_decoders_and_none_of_contributions() -> None:
    assert list(Planted(small.bert()).attribute_text(TEXT, tokenizer=ENCODER).sinks) == [2]
    crossing = ac.MultiBounce(bart())
    crossing.read = Planted(crossing.forward_func).read  # type: ignore[method-assign]
    assert list(crossing.attribute_text(TEXT, "a dog", SEQ2SEQ).sinks) == [2]
    contributions = ac.Rollout(small.llama(), maps="alti").attribute_text(TEXT, "a dog", DECODER)
    assert contributions.sinks == {}
    assert "\n" not in repr(contributions)


def test_plots_are_shown_with_their_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []

    def show(*_: Any, **__: Any) -> None:
        shown.append(len(pyplot.gcf().axes[0].patches))

    monkeypatch.setattr(FigureCanvasAgg.manager_class, "pyplot_show", show)
    result = ac.TextAttributionResult(
        input_tokens=["a", "b"], output_tokens=["c"], token_attr=torch.ones(1, 2), policy="last", sinks={0: "takes all"}
    )
    assert result.plot_token_attr(show=True) is None
    assert result.plot_seq_attr(show=True) is None
    assert shown == [1, 5]


def test_scores_of_words_sentences_and_parts_are_sums() -> None:
    text = "the cats sat. a dog walks on."
    result = ac.MultiBounce(small.llama()).attribute_text(text, "a dog", DECODER)
    by_word = result.by_word()
    assert result.token_attr is not None
    assert by_word.token_attr is not None
    words = result.grouped("word")
    assert words.input_tokens == by_word.input_tokens[1:]
    torch.testing.assert_close(words.token_attr, by_word.token_attr[:, 1:])
    sentences = result.grouped("sentence")
    assert sentences.input_tokens == ["the cats sat .", "a dog walks on ."]
    torch.testing.assert_close(
        sentences.token_attr, torch.stack([result.token_attr[:, 1:6].sum(1), result.token_attr[:, 6:].sum(1)], 1)
    )
    assert result.grouped(["dog", "walks"]).input_tokens == ["dog", "walks"]
    (first, share), (_, rest) = sentences.top()
    assert first == sentences.input_tokens[int(sentences.elsewhere().seq_attr.argmax())]
    assert share + rest == pytest.approx(1)
    assert sentences.top(1) == [(first, share)]
    best = words.elsewhere().seq_attr.argsort(descending=True)[:3]
    assert [word for word, _ in words.top(3)] == [words.input_tokens[k] for k in best]


def test_the_page_of_a_result(tmp_path: Any) -> None:
    result = Started(small.llama()).attribute_text(TEXT, "a dog walks", DECODER)
    shown = result._repr_html_()
    assert re.findall(r'<span id="\w+" class="w[^"]*"[^>]*>([^<]*)<', shown) == [
        "&lt;s&gt;",
        "the",
        "cats",
        "sat",
        "on",
        "the",
        "mat",
        ".",
    ]
    assert "<bdi>cats</bdi> is an attention sink: it takes" in shown
    assert shown.count('type="radio"') == len(result.output_tokens) == 4
    written = result.write_html(tmp_path / "page.html", "a <title>").read_text("utf-8")
    assert written.endswith(shown)
    assert "<title>a &lt;title&gt;</title>" in written
    outputs = shown.split("→")[1]
    assert "--a2" in outputs, "the third output reads the first"
    assert "--a1" not in outputs, "which predicts the second, and does not read itself"
    plain = ac.TextAttributionResult(input_tokens=["a", "b"], output_tokens=["c"], token_attr=torch.ones(1, 2), policy="last")
    assert "a</span> <span" in plain._repr_html_()


def test_a_position_that_predicts_is_left_out_of_pictures() -> None:
    result = ac.TokenRank(small.llama(), maps="attention").attribute_text(TEXT, "a dog walks", DECODER)
    found = result.elsewhere()
    assert result.token_attr is not None
    assert found.token_attr is not None
    assert result.output_attr is not None
    assert found.output_attr is not None
    left = result.token_attr - found.token_attr
    assert left[0, -1] == result.token_attr[0, -1] > 0
    assert left.count_nonzero() == 1
    assert (result.output_attr - found.output_attr).nonzero().tolist() == [[1, 0], [2, 1], [3, 2]]
    assert found.elsewhere() is found
    torch.testing.assert_close(result.by_word().elsewhere().token_attr, found.by_word().token_attr)
    torch.testing.assert_close(result.grouped("sentence").elsewhere().token_attr, found.grouped("sentence").token_attr)
    assert result.top(20) == found.top(20)
    assert "gives itself (" in result._repr_html_()
    assert "gives itself (" not in found._repr_html_()
    encoded = ac.ColumnSum(small.bert()).attribute_text(TEXT, tokenizer=ENCODER)
    assert encoded.elsewhere() is encoded


STARTED = [ac.MultiBounce, ac.RawAttention, ac.GradientAttention, ac.TokenRank, ac.GradientTokenRank, ac.LogitTokenRank]
UNSTARTED = [
    attribution.LeaveOneOut,
    partial(attribution.ShapleyValues, n_samples=2),
    attribution.IntegratedGradients,
    attribution.AttnLRP,
    ac.LeGrad,
    ac.ColumnSum,
    ac.RandomRanking,
    partial(ac.TokenRank, causal="damp"),
]


@pytest.mark.parametrize("build", [*STARTED, *UNSTARTED])
def test_scores_of_methods_that_do_not_walk_from_the_position_stay(build: Any) -> None:
    result = build(small.llama()).attribute_text(TEXT, "dog", DECODER)
    if build in STARTED:
        assert result.elsewhere().token_attr[0, -1] == 0
    else:
        assert result.own is None
        assert result.token_attr[0, -1] != 0
        assert "gives itself (" not in result._repr_html_()


def test_features_are_groups() -> None:
    text, method = "the cats sat. a dog walks on.", ac.MultiBounce(small.llama())
    result = method.attribute_text(text, "a dog", DECODER, features="sentence")
    assert result.input_tokens == ["the cats sat .", "a dog walks on ."]
    assert method.attribute_text(text, "a dog", DECODER, features=["dog"]).input_tokens == ["dog"]


def test_sinks_follow_their_tokens_into_sentences() -> None:
    result = Planted(small.llama()).attribute_text(TEXT, "a dog", DECODER).grouped("sentence")
    assert list(result.sinks) == [0]


def test_a_prompt_without_the_parts_that_are_asked_for() -> None:
    found = ac.TokenRank(small.llama()).attribute_text([5], "dog", DECODER)
    with pytest.raises(ac.AttentionError, match=r"(?s)no part by features='word'; its tokens are .*seq_attr"):
        found.grouped("word")
    with pytest.raises(ac.AttentionError, match=r"no part by features=\[\]"):
        ac.TokenRank(small.llama()).attribute_text(TEXT, "dog", DECODER, features=[])


def of_scores(scores: Any, tokens: int = 2, **others: Any) -> ac.TextAttributionResult:
    labels = ["a", "b", "c"][:tokens]
    return ac.TextAttributionResult(input_tokens=labels, output_tokens=["o"], token_attr=scores, policy="last", **others)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_scores_of_narrow_types_have_shares(dtype: torch.dtype) -> None:
    """The sum is beyond the greatest number of float16."""
    result = of_scores(torch.tensor([[49152, 16384]], dtype=dtype), output_attr=torch.zeros(1, 1, dtype=dtype))
    assert result.top() == [("a", 0.75), ("b", 0.25)]
    assert result.seq_attr.tolist() == [49152, 16384]


def test_the_greatest_tokens_are_written_without_marks() -> None:
    spelling = Spelling(["A", " b", "\n"], [False] * 3)
    result = ac.TextAttributionResult(
        input_tokens=["A", "Ġb", "Ċ"],
        output_tokens=["o"],
        token_attr=torch.tensor([[1.0, 2, 1]]),
        policy="",
        spelling=spelling,
    )
    assert [token for token, _ in result.top()] == ["b", "A", "Ċ"]


def test_white_space_has_the_name_of_its_token() -> None:
    result = ac.TextAttributionResult(
        input_tokens=["A", "Ġlion", "Ċ"],
        output_tokens=["yes"],
        token_attr=torch.tensor([[1.0, 2.0, 5.0]]),
        policy="",
        spelling=Spelling(["A", " lion", "\n"], [False] * 3),
    )
    assert result.by_word().input_tokens == ["A", "lion", "Ċ"]
    assert [name for name, _ in result.by_word().top(3)] == [name for name, _ in result.top(3)] == ["Ċ", "lion", "A"]


def test_scores_without_meaning_are_refused() -> None:
    for other in (float("nan"), float("inf")):
        with pytest.raises(ac.AttentionError, match="token_attr holds NaN or infinity"):
            of_scores(torch.tensor([[1, other]]))
    with pytest.raises(ac.AttentionError, match="own holds NaN"):
        of_scores(torch.ones(1, 2), own=torch.tensor([[1, float("nan")]]))
    with pytest.raises(ac.AttentionError, match=r"output_attr has shape \(1, 2\) beside 1 × 1 labels"):
        of_scores(torch.ones(1, 2), output_attr=torch.ones(1, 2))
    with pytest.raises(ac.AttentionError, match=r"token_attr has shape \(1, 0\) beside 1 × 0 labels"):
        of_scores(torch.ones(1, 0), 0)
    with pytest.raises(ac.AttentionError, match=r"token_attr has shape \(1, 3\) beside 1 × 2 labels"):
        of_scores(torch.ones(1, 3))
    with pytest.raises(ac.AttentionError, match="token_attr is of type list"):
        of_scores([[1.0, 2.0]])
