"""Collectors of contributions: what they keep, how a default is chosen, what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import (
    AttentionBlock,
    ContributionCollector,
    DefaultCollector,
    Expected,
    Maps,
    Shown,
    StoreCollector,
)
from attnchain_interp.capture.contribution_collector import TEXT_MAPS, collector_of

TEXT, CAUSAL = ac.TokenLayout.text(torch.ones(1, 4)), torch.full((1, 2, 4, 4), 0.25).tril()
MAPS: list[Maps] = ["norm", "norm-res", "norm-resln", "projection", "alti"]


class Blocks(nn.Module):
    """Two blocks of attention, causal or not; a squashed one is no sum over tokens."""

    def __init__(self, causal: bool, squashed: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.causal, self.squashed = causal, squashed

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if self.causal else None
        for number, layer in enumerate(self.layers):
            attended = layer(x, x, x, attn_mask=mask)[0]
            x = x + (attended.tanh() if number in self.squashed else attended)
        return x


def given(seed: int = 0) -> Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("maps", MAPS)
def test_contributions_by_one_path(maps: Any) -> None:
    model, x = Blocks(causal=True).eval(), given()
    store, reducer = ac.capture(model, x, maps=maps), ac.StationaryVectors()
    assert store.metadata["maps"] == maps
    assert store.maps().shape == (2, 2, 1, 5, 5)
    reduced = ac.capture(model, x, maps=maps, keep=[reducer])
    assert reduced.metadata["maps"] == maps
    assert torch.equal(reduced["stationary"][:, 1], reducer.reduce(store.chain(1, "each"), store.tokens))
    assert ac.capture(model, x, layers=-1, maps=maps, keep="maps").names == ["layers.1"]


@pytest.mark.parametrize("keep", ["auto", [ac.SecondEigenvalues()]])
def test_the_default_reads_contributions_of_any_text(keep: Any) -> None:
    """Of patches only where attention is causal: an image in the prompt of a decoder."""
    image = ac.TokenLayout.image(2, (2, 2), prefix=[ac.Role.CLASS])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cases: list[tuple[bool, Any, Any]] = [
            (True, None, TEXT_MAPS),
            (False, None, TEXT_MAPS),
            (True, image, TEXT_MAPS),
            (False, image, "attention"),
        ]
        for causal, tokens, expected in cases:
            reading = ac.Reading(tokens=tokens)
            found = ac.capture(Blocks(causal).eval(), given(), maps=None, keep=keep, reading=reading)
            plain: Any = ac.capture(Blocks(causal).eval(), given(), maps=expected, keep=keep, reading=reading)
            assert found.metadata["maps"] == plain.metadata["maps"] == expected
            assert found.names == plain.names == ["layers.0", "layers.1"]
            if keep == "auto":
                assert torch.equal(found.maps(), plain.maps())
    assert ac.capture(Blocks(True).eval(), given()).metadata["maps"] == "attention"


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("squashed", [(0, 1), (0,), (1,)])
def test_a_decoder_with_a_block_that_is_no_sum_is_read_by_attention_with_a_warning(
    squashed: tuple[int, ...], inside: bool
) -> None:
    """All layers are, whichever one it is."""
    model, x = Blocks(True, squashed).eval(), given()
    first, whole, reading = f"layers.{squashed[0]}", model, None
    if inside:
        whole, reading = nn.ModuleDict({"text": model, "other": Blocks(False)}).eval(), ac.Reading(tower="text")
        whole.forward = model.forward
    with pytest.warns(
        UserWarning, match=rf"layer '(text\.)?{first}'.*: .* Attention is read instead. maps=\"attention\" says so"
    ) as told:
        store = ac.capture(whole, x, maps=None, reading=reading)
    assert len(told) == 1
    assert store.metadata["maps"] == "attention"
    assert torch.equal(store.maps(), ac.capture(model, x).maps())
    with pytest.raises(ac.AttentionError, match=f"(?s)'(text\\.)?{first}'.*: .*no.* sum over tokens.*maps=\"attention\""):
        ac.capture(whole, x, maps="alti", reading=reading)


def test_an_example_to_whose_tokens_none_contributes_reads_alone_as_in_a_batch() -> None:
    """A bias makes the output of one token zero: attention stands in for its row, and for no other."""
    model, x = Blocks(causal=True).eval(), given()
    last: Any = model.layers[1]
    last.out_proj.bias.data.sub_(model(x)[1, 4])
    with pytest.warns(UserWarning, match="layer 'layers.1': no token contributes to the output of 1 token by 'alti'"):
        store = ac.capture(model, x, maps=None)
    assert store.metadata["maps"] == "alti"
    plain = ac.capture(model, x).maps()[:, 1].mean(1)
    same = torch.isclose(store.maps()[:, 1, 0], plain, atol=1e-6).all(-1)
    assert same[:, 1:].nonzero().tolist() == [[1, 3]], "the first token has itself alone"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = torch.cat([ac.capture(model, each[None], maps=None).maps() for each in x])
    assert torch.allclose(store.maps(), alone, atol=1e-6)


@pytest.mark.parametrize("alone", [False, True])
def test_a_collector_keeps_the_refusal_of_a_later_layer(alone: bool) -> None:
    ones, zero = torch.ones(1, 4, 8), torch.zeros(1, 4, 8)
    maps = CAUSAL / CAUSAL.sum(-1, keepdim=True)
    block = AttentionBlock("M, layer 'a'", maps, torch.ones(1, 2, 4, 8) / 2, torch.zeros(8), ones, zero, None, ones)
    collector: Any = collector_of(None, "auto", 1000)
    collector.expect(Expected(TEXT, 2, 2, False))
    collector.take_block("a", block, Shown(maps))
    assert collector.wants_blocks
    assert collector.refusal is None
    given = ("b", Shown(maps)) if alone else ("b", ac.AttentionError("layer 'b' showed its attention alone."), Shown(maps))
    with pytest.raises(ac.AttentionError, match="layer 'b' showed its attention alone"):
        (collector.take if alone else collector.take_block)(*given)
    assert "layer 'b'" in str(collector.refusal)


def test_maps_that_do_not_fit() -> None:
    model, x = Blocks(causal=True).eval(), given()
    with pytest.raises(
        ac.AttentionError, match='(?s)the contributions of 2 layers × 5 tokens take 400.0 B.*keep reducers.*keep="maps"'
    ):
        ac.capture(model, x, maps="alti", max_bytes=10)
    with pytest.raises(ac.AttentionError, match="keep=\"factors\" and maps='norm': contributions have no queries and keys"):
        ac.capture(model, x, maps="norm", keep="factors")
    assert isinstance(collector_of(None, "factors", 1), StoreCollector), "factors are those of attention"


def test_what_is_refused() -> None:
    with pytest.raises(
        ac.AttentionError, match="(?s)maps='size' is unknown.*'attention', 'norm', 'norm-res', 'norm-resln'.*'alti'"
    ):
        ac.capture(Blocks(True), given(), maps="size")  # type: ignore[call-overload]
    store = ac.AttentionStore.from_maps([CAUSAL.softmax(-1)])
    with pytest.raises(ac.AttentionError, match="(?s)maps='alti' is computed while a model runs.*maps='alti'"):
        ac.capture(lambda: store, maps="alti")
    assert ac.capture(lambda: store, maps=None) is store
    with pytest.raises(ac.AttentionError, match="measure='size' is unknown"):
        ContributionCollector("size", StoreCollector())  # type: ignore[arg-type]
    collector = ContributionCollector("alti", StoreCollector())
    with pytest.raises(ac.AttentionError, match='(?s)this is attention to other tokens.*maps="attention"'):
        collector.expect(Expected(TEXT, 1, 1, False, TEXT))
    collector.expect(Expected(TEXT, 1, 1, False))
    with pytest.raises(ac.AttentionError, match="layer 'a' showed its attention alone"):
        collector.take("a", Shown(torch.zeros(1, 1, 4, 4)))


def test_a_default_of_attention_without_values() -> None:
    maps = CAUSAL / CAUSAL.sum(-1, keepdim=True)
    collector: Any = collector_of(None, "auto", 1000)
    assert isinstance(collector, DefaultCollector)
    collector.expect(Expected(TEXT, 1, 2, False))
    with pytest.warns(UserWarning, match="layer 'a' showed its attention alone.* Attention is read instead"):
        collector.take("a", Shown(maps))
    assert not collector.wants_blocks
    assert torch.equal(collector.result(["a"], {}).maps()[:, 0], maps)


def test_attention_to_other_tokens_is_read_as_attention() -> None:
    collector: Any = collector_of(None, "auto", 1000)
    collector.expect(Expected(TEXT, 1, 2, False, TEXT))
    assert not collector.wants_blocks
