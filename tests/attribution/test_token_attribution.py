"""The arguments of `attribute`: token ids, refused calls, parts of a batch, progress."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.attribution.token_attribution import TokenAttribution

from . import small_models as small
from .miniature import source


def test_token_numbers_as_inputs() -> None:
    def text(ids: Tensor) -> AttentionStore:
        return AttentionStore.from_maps([torch.eye(ids.shape[1]).expand(len(ids), 1, -1, -1)])

    scores = ac.ColumnSum(text).attribute(torch.tensor([[5, 6, 7]]))
    assert torch.allclose(scores, torch.full((1, 3), 1 / 3))
    with pytest.raises(ac.AttentionError, match="no image grid"):
        ac.ColumnSum(text).attribute(torch.tensor([[5, 6, 7]]), output="grid")


def test_bad_calls(images: Tensor) -> None:
    method = ac.TokenRank(source)
    with pytest.raises(ac.AttentionError, match="inputs holds 2 items"):
        method.attribute((images, images))
    for size in (0, -1, 1.5, True):
        with pytest.raises(ac.AttentionError, match=f"internal_batch_size is {size}"):
            method.attribute(images, internal_batch_size=size)  # type: ignore[arg-type]
    for size in (None, 2):
        with pytest.raises(ac.AttentionError, match="inputs holds no example"):
            method.attribute(images[:0], internal_batch_size=size)
    with pytest.raises(ac.AttentionError, match="output='pixels' is unknown"):
        method.attribute(images, output="pixels")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="the source is of type NoneType"):
        ac.TokenRank().attribute(images)
    with pytest.raises(ac.AttentionError, match="layer 2 does not exist"):
        ac.TokenRank(source, layers=2).attribute(images)
    with pytest.raises(ac.AttentionError, match="damping is 1.5"):
        ac.TokenRank(source, damping=1.5).attribute(images)
    with pytest.raises(ac.AttentionError, match="token 5 does not exist"):
        ac.MultiBounce(source, start=5).attribute(images)
    with pytest.raises(ac.AttentionError, match="'middle' is unknown"):
        ac.MultiBounce(source, start="middle").attribute(images)
    with pytest.raises(ac.AttentionError, match="start is not a distribution"):
        ac.MultiBounce(source, start=torch.ones(5)).attribute(images)
    with pytest.raises(ac.AttentionError, match="select='diagonal'"):
        ac.RawAttention(source, select="diagonal")  # type: ignore[arg-type]


def test_the_residual_of_what_is_not_solved_to_the_end(images: Tensor) -> None:
    method = ac.TokenRank(source, heads="each")
    _, delta = method.attribute(images, output="tokens", return_convergence_delta=True)
    assert delta.shape == (3, 2)
    absorbing = ac.TokenRank(source, causal="absorb")
    assert not absorbing.has_convergence_delta()
    with pytest.raises(ac.AttentionError, match='every causal policy but "absorb"'):
        absorbing.attribute(images, return_convergence_delta=True)


def test_progress_is_shown_when_asked_for(images: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    ac.ColumnSum(source).attribute(images, internal_batch_size=1)
    assert capsys.readouterr().err == ""
    ac.ColumnSum(source).attribute(images, internal_batch_size=1, show_progress=True)
    shown = capsys.readouterr().err
    assert "Column Sum attribution" in shown
    assert "3/3" in shown


def test_scores_of_a_decoder_do_not_lie_on_the_encoders_input_where_lengths_coincide() -> None:
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 32, "num_layers": 2, "vocab_size": 50}
    sizes["decoder_start_token_id"] = 0
    config = transformers.T5Config(**sizes)
    model = transformers.T5ForConditionalGeneration(config).eval()
    ids, method = torch.randint(1, 50, (2, 7)), ac.TokenRank(model)
    given = {"decoder_input_ids": torch.randint(1, 50, (2, 7))}
    assert method.attribute(ids, model_kwargs=given, reading=ac.Reading(kind="encoder")).shape == (2, 7)
    decoder = ac.Reading(kind="decoder")
    with pytest.raises(ac.AttentionError, match='(?s)of the tokens of the decoder.*Ask for output="tokens"'):
        method.attribute(ids, model_kwargs=given, reading=decoder)
    assert method.attribute(ids, model_kwargs=given, reading=decoder, output="tokens").shape == (2, 7)


def test_a_method_that_forgets_its_scores_is_told(images: Tensor) -> None:
    class Forgetful(TokenAttribution):
        def read(self, call: Any) -> AttentionStore:
            return source(call.inputs)

    with pytest.raises(ac.AttentionError, match=r"Forgetful has no scores\(source, first\).*\nDefine scores"):
        Forgetful(source).attribute(images)


def test_a_method_of_your_own_that_returns_no_score_a_token_is_told(images: Tensor) -> None:
    class Array(ac.AttentionAttribution):
        def score(self, store: AttentionStore) -> Any:
            return self.chain(store).matrix.mean(1).numpy()

    class Square(ac.AttentionAttribution):
        def score(self, store: AttentionStore) -> Tensor:
            return self.chain(store).matrix

    with pytest.raises(ac.AttentionError, match=r"scores is of type ndarray; it must be a tensor \(batch, token\)"):
        Array(source).attribute(images)
    with pytest.raises(ac.AttentionError, match=r"scores of \(3, 5, 5\) tokens cannot take the shape"):
        Square(source).attribute(images)

    class Of(ac.AttentionAttribution):
        def __init__(self, model: Any, made: Any) -> None:
            super().__init__(model)
            self.made = made

        def score(self, store: AttentionStore) -> Tensor:
            return self.made(store.maps())

    for made in (lambda maps: maps, lambda maps: maps[:, 0, 0, 0, 1:], lambda maps: maps[0, 0, 0, 0]):
        for output in ("input", "tokens"):
            with pytest.raises(ac.AttentionError, match=r"scores is \(.*\); it must be \(batch, 5\)"):
                Of(source, made).attribute(images, output=output)  # type: ignore[arg-type]


def test_settings_of_examples_are_divided_with_the_batch() -> None:
    model, images = small.vit(), small.images(3)
    starts = torch.eye(7, dtype=torch.float64)[[1, 4, 6]]
    states = torch.ones(3, 7, dtype=torch.bool)
    states[1, 2] = False
    methods = (
        ac.MultiBounce(model, start=starts, tokens=states),
        ac.TokenRank(model, personalization=starts, tokens=states, layer_weights=torch.tensor([[1, 2], [1, 0], [0, 1]])),
        ac.GradientTokenRank(model, personalization=starts, tokens=states),
        ac.GradientAttention(model, start=starts),
    )
    for method in methods:
        whole = method.attribute(images, 1, output="tokens")
        for size in (1, 2):
            assert torch.allclose(method.attribute(images, 1, output="tokens", internal_batch_size=size), whole, atol=1e-12)


class Mixed(ac.ColumnSum):  # type: ignore[misc] - final for type checkers alone
    """A method of one's own: its tensor is no setting of the examples, and it keeps what it found."""

    def __init__(self, model: Any, mix: Tensor) -> None:
        super().__init__(model)
        self.mix, self.found = mix, torch.empty(0)

    def score(self, store: AttentionStore) -> Tensor:
        self.found = super().score(store) * self.mix.sum()
        return self.found


def test_attributes_of_a_method_of_ones_own_stay() -> None:
    method, images = Mixed(small.vit(), torch.ones(3, 3)), small.images(3)
    whole = method.attribute(images, output="tokens")
    assert torch.allclose(method.attribute(images, output="tokens", internal_batch_size=1), whole)
    method.tokens = torch.ones(3, 7, dtype=torch.bool)
    whole = method.attribute(images + 1, output="tokens")
    assert torch.equal(method.found.to(whole.dtype), whole)
