"""Examples, heads, tokens and channels are told apart where there are as many of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.recording.axes import check_axes

TOKENS, HEADS = 4, 3
WIDTH = TOKENS * HEADS  # a head has as many channels as there are tokens
TEXT = ac.Reading(tokens=ac.TokenLayout.text())


class Own(nn.Module):
    """Attention of one's own. `split` turns its projection (batch, token, 3 · width) into queries, keys and values."""

    def __init__(self, split: Callable[[Tensor], Any], join: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.split, self.join = split, join

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.qkv(self.norm(x)))
        return x + self.out(self.join((query @ key.mT).softmax(-1) @ value))


def of_heads(qkv: Tensor) -> Any:
    return qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)


def of_channels(qkv: Tensor) -> Any:
    return of_heads(qkv).mT.contiguous()


def heads_first(qkv: Tensor) -> Any:
    return of_heads(qkv).transpose(1, 2)


FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "heads": (of_heads, lambda mixed: mixed.transpose(1, 2).flatten(2)),
    "channels": (of_channels, lambda mixed: mixed.mT.transpose(1, 2).flatten(2)),
    "heads first": (heads_first, lambda mixed: mixed.movedim(0, 2).flatten(2)),
    "folded": (
        lambda qkv: of_heads(qkv).flatten(1, 2),
        lambda mixed: mixed.unflatten(0, (-1, HEADS)).transpose(1, 2).flatten(2),
    ),
    "one head": (lambda qkv: qkv.unflatten(-1, (3, -1)).movedim(2, 0), lambda mixed: mixed),
}


def built(form: str) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(Own(*FORMS[form]), Own(*FORMS[form])).eval()


def tokens(batch: int) -> Tensor:
    return torch.randn(batch, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def test_channels_are_told_from_as_many_tokens() -> None:
    with pytest.raises(ac.AttentionError, match="layer '0' mixes the 4 channels of its heads"):
        ac.capture(built("channels"), tokens(1), reading=TEXT)
    assert ac.capture(built("heads"), tokens(1), reading=TEXT).names == ["0", "1"]
    assert ac.capture(built("folded"), tokens(1), reading=TEXT).names == ["0", "1"]


@pytest.mark.parametrize("form", ["heads", "folded", "one head"])
def test_heads_and_examples_in_their_order_pass(form: str) -> None:
    layers = {"0": ["0"], "1": ["1"]}
    for batch in (1, 2, HEADS):
        model, x = built(form), tokens(batch)
        check_axes(model, lambda: model(x), layers, {"0", "1"}, batch)  # noqa: B023
    assert not any(module._forward_hooks for module in model.modules())
    with torch.inference_mode():
        check_axes(model, lambda: model(x), layers, {"0", "1"}, batch)


def test_heads_before_examples_are_known() -> None:
    model, x = built("heads first"), tokens(HEADS)
    with pytest.raises(ac.AttentionError, match="the 3 heads of layer '0' hold other tokens each"):
        check_axes(model, lambda: model(x), {"0": ["0"], "1": ["1"]}, {"0", "1"}, HEADS)


class Rows(nn.Module):
    """Attention within the rows of a grid, which come as examples: one head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x.flatten(0, 1)).chunk(3, -1)
        return ((query @ key.mT).softmax(-1) @ value).unflatten(0, x.shape[:2])


def test_rows_of_one_image_are_not_taken_for_heads() -> None:
    with pytest.raises(ac.AttentionError, match="the 5 heads of layer '0' hold other tokens each: rows, windows"):
        ac.capture(nn.Sequential(Rows()), torch.randn(1, 5, 4, 8), reading=TEXT)


def test_an_attention_class_of_ones_own_in_a_known_model_is_looked_at() -> None:
    import timm

    class Swapped(nn.Module):
        """Attention whose heads come before examples."""

        def __init__(self, first: bool) -> None:
            super().__init__()
            self.qkv, self.first, self.num_heads = nn.Linear(12, 36), first, HEADS

        def forward(self, x: Tensor, **_: Any) -> Tensor:
            query, key, value = heads_first(self.qkv(x)) if self.first else of_heads(self.qkv(x))
            mixed = (query @ key.mT).softmax(-1) @ value
            return (mixed if self.first else mixed.transpose(0, 1)).movedim(0, 2).flatten(2)

    options: Any = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": HEADS}
    model: Any = timm.models.VisionTransformer(**options).eval()
    images = torch.randn(HEADS, 3, 8, 8)
    model.blocks[1].attn = Swapped(first=False)
    assert len(ac.capture(model, images)) == 2
    model.blocks[1].attn = Swapped(first=True)
    with pytest.raises(ac.AttentionError, match=r"the 3 heads of layer 'blocks\.1\.attn' hold other tokens"):
        ac.capture(model, images)


@pytest.mark.parametrize("batch", [2, TOKENS])
def test_an_encoder_that_takes_the_sequence_first_needs_another_number_of_examples_than_tokens(batch: int) -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=False)
    model: Any = nn.Sequential(nn.Embedding(9, WIDTH), nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)).eval()
    ids = torch.randint(0, 9, (TOKENS, batch), generator=torch.Generator().manual_seed(0))
    if batch == TOKENS:
        with pytest.raises(ac.AttentionError, match="or has as many heads or tokens, and which comes first is not known"):
            ac.capture(model, ids)
    else:
        assert ac.capture(model, ids).batch == batch


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, WIDTH)
        self.one, self.other = built("heads"), built("heads")

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.one(self.words(first)).mean(1) * self.other(self.words(second)).mean(1)


def test_scores_of_the_tower_of_another_argument_do_not_lie_on_the_input() -> None:
    model, ids = Towers().eval(), torch.arange(TOKENS)[None]
    method = ac.TokenRank(model)
    scores = method.attribute(ids, additional_forward_args=ids + 1, reading=ac.Reading(tower="one"))
    assert scores.shape == ids.shape
    other = ac.Reading(tower="other")
    with pytest.raises(ac.AttentionError, match="(?s)of the tokens of the argument 1, and inputs are others"):
        method.attribute(ids, additional_forward_args=ids + 1, reading=other)
    with pytest.raises(ac.AttentionError, match="of the tokens of the argument second"):
        method.attribute(ids, model_kwargs={"second": ids + 1}, reading=other)
    assert method.attribute(ids, additional_forward_args=ids + 1, reading=other, output="tokens").shape == ids.shape


def test_results_in_given_tensors_are_refused_in_words() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            maps = (q @ k.mT).softmax(-1)
            return torch.matmul(maps, v, out=torch.empty_like(v))

    model, x = Given().eval(), torch.randn(1, 5, 8)
    with pytest.raises(ac.AttentionError, match=r"(?s)Given writes results into given tensors \(out=…\).*from_maps"):
        check_axes(model, lambda: model(x), {"": [""]}, {""}, 1)


def test_a_module_that_also_reads_a_memory_is_refused_in_words() -> None:
    """The values of the memory are learnt weights, which no projection of the tokens reaches."""

    class Memory(Own):
        def __init__(self) -> None:
            super().__init__(of_heads, lambda heads: heads.transpose(1, 2).flatten(2))
            self.memory = nn.Embedding(6, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            read = super().forward(x)
            values = nn.functional.normalize(self.memory.weight, dim=-1)
            return (read @ values.mT).softmax(-1) @ values

    with pytest.raises(ac.AttentionError, match="layer 'Memory' computed attention twice in one forward"):
        ac.capture(Memory().eval(), torch.randn(2, TOKENS, WIDTH))
