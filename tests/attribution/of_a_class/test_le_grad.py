"""LeGrad beside its formula: each layer's own score, read through the model's head as its authors wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.gradients import capture_layer_gradients

from .. import small_models as small

TARGET = [3, 1]


def le_grad(scores: list[Tensor], maps: list[Tensor]) -> Tensor:
    """(batch, token): the mean over layers, heads and queries of ReLU(∂s_l/∂A_l)."""
    each = [torch.autograd.grad(s.sum(), A, retain_graph=True)[0] * (A > 0) for s, A in zip(scores, maps, strict=True)]
    return torch.stack([G.clamp(min=0).mean((1, 2)) for G in each]).mean(0)


def seen(model: nn.Module, names: list[str]) -> dict[str, list[Any]]:
    """What modules put out in the forwards to come."""
    outputs: dict[str, list[Any]] = {name: [] for name in names}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: outputs[name].append(output))
    return outputs


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"class_token": False, "global_pool": "avg"}, {"class_token": False, "global_pool": "map"}, {"reg_tokens": 2}],
    ids=str,
)
def test_on_timm(options: dict[str, Any], depth: int) -> None:
    model, images = small.vit(depth, **options), small.images()
    scores = ac.LeGrad(model).attribute(images, TARGET, output="tokens")
    own = small.vit(depth, fused=False, **options)
    blocks = [f"blocks.{k}" for k in range(depth)]
    outputs = seen(own, [*blocks, *(f"{block}.attn.attn_drop" for block in blocks)])
    own(images)
    logits = [own.forward_head(own.norm(outputs[block][0])) for block in blocks]
    expected = le_grad(
        [each[torch.arange(2), TARGET] for each in logits], [outputs[f"{block}.attn.attn_drop"][0] for block in blocks]
    )
    expected[:, : model.num_prefix_tokens] = 0
    assert torch.allclose(scores, expected, atol=1e-12)
    assert float(expected.max()) > 1e-5


def image_classifier() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 3, "num_labels": 4}
    config = transformers.ViTConfig(image_size=24, patch_size=8, intermediate_size=32, **sizes)
    return small.sharpened(transformers.ViTForImageClassification(config))


Read = Callable[[Any, Tensor], Tensor]


@pytest.mark.parametrize(
    ("build", "inputs", "target", "read"),
    [
        (
            image_classifier,
            {"pixel_values": torch.randn(2, 3, 24, 24, dtype=torch.float64)},
            1,
            lambda model, z: model.classifier(model.vit.layernorm(z)[:, 0])[:, 1],
        ),
        (
            small.bert,
            {"input_ids": small.ids(), "attention_mask": torch.tensor([[1] * 7, [1, 1, 1, 1, 1, 0, 0]])},
            2,
            lambda model, z: model.classifier(torch.tanh(model.bert.pooler.dense(z[:, 0])))[:, 2],
        ),
        (small.llama, {"input_ids": small.ids()}, (5, 8), lambda model, z: model.lm_head(model.model.norm(z))[:, 5, 8]),
    ],
    ids=["ViT", "BERT, padded", "Llama"],
)
def test_on_transformers(build: Callable[[], Any], inputs: dict[str, Any], target: Any, read: Read) -> None:
    scores = ac.LeGrad().score(capture_layer_gradients(build(), target=target, **inputs))
    model = build()
    model.set_attn_implementation("eager")
    blocks = [name for name, module in model.named_modules() if type(module).__name__.endswith("Layer")]
    blocks = blocks or [f"model.layers.{k}" for k in range(3)]
    outputs = seen(model, blocks)
    maps = model(**inputs, output_attentions=True).attentions
    tokens = [each if isinstance(each := outputs[block][0], Tensor) else each[0] for block in blocks]
    assert len(tokens) == len(maps)
    mask = inputs.get("attention_mask", torch.ones(maps[0].shape[0], maps[0].shape[-1]))
    if isinstance(target, tuple):
        mask[:, target[0] + 1 :] = 0  # the context of the target is what counts
    expected = le_grad([read(model, z) for z in tokens], list(maps)) * mask * (mask.shape[1] / mask.sum(1, keepdim=True))
    if "pixel_values" in inputs:
        expected[:, 0] = 0
    assert torch.allclose(scores.double(), expected.double(), atol=1e-7)
    assert float(expected.max()) > 1e-5


def test_the_last_layers_score_is_the_models_own() -> None:
    model, images = small.vit(3), small.images()
    found, own = capture_layer_gradients(model, images, target=1), ac.capture_gradients(model, images, target=1)
    assert found.store.names == own.store.names
    assert torch.allclose(found.gradient(-1), own.gradient(-1), atol=1e-12)
    assert not found.gradient(0)[:, :, 1:].any(), "within its own layer the class token reads its own row alone"
    assert own.gradient(0)[:, :, 1:].any(), "and later layers read the others"
    last = ac.LeGrad(model, layers=-1).attribute(images, 1, output="tokens")
    assert torch.allclose(last, ac.LeGrad(layers=-1).score(own), atol=1e-12)
    two = ac.LeGrad(model, layers=[2, 0]).attribute(images, 1, output="tokens")
    assert torch.allclose(two, ac.LeGrad(layers=[0, 2]).score(found), atol=1e-12)
    assert not torch.allclose(two, ac.LeGrad(layers=[0, 2]).score(own), atol=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    model, images = small.vit(), small.images()
    before = model(images)
    model.blocks[0].forward = (own := model.blocks[0].forward)  # another tool's wrapper
    with torch.no_grad():
        ac.LeGrad(model).attribute(images, 1)
    assert model.blocks[0].__dict__["forward"] is own
    assert "forward" not in model.blocks[1].__dict__
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(images), before)
    with pytest.raises(RuntimeError, match="boom"):
        capture_layer_gradients(model, images, target=lambda _: (_ for _ in ()).throw(RuntimeError("boom")))
    assert "forward" not in model.blocks[1].__dict__


class Skipping(nn.Module):
    """A head that reads what an earlier part of the model computed, and has it only when that part runs."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 3, 32, batch_first=True, dropout=0)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(24, 4)
        self.extra: Tensor | None = None
        self.encoder.get_submodule("layers.0.linear1").register_forward_hook(
            lambda _, __, output: setattr(self, "extra", output.mean())
        )

    def forward(self, x: Tensor) -> Tensor:
        self.extra = None
        logits = self.head(self.encoder(x).mean(1))
        return logits if self.extra is None else logits + self.extra


def test_models_whose_layers_have_no_score_of_their_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 24)
    with pytest.raises(
        ac.AttentionError, match="score of Skipping is read off more than the tokens that its last block outputs"
    ):
        ac.LeGrad(Skipping().eval()).attribute(x, 1, output="tokens")
    alone = nn.TransformerEncoderLayer(24, 3, 32, batch_first=True, dropout=0).eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)'self_attn' is in no block .*capture_gradients\(model, …\)"):
        ac.LeGrad(alone).attribute(x, lambda output: output[:, 0, 0], output="tokens")
    sizes: dict[str, Any] = {**small.BERT, "num_hidden_layers": 2, "num_hidden_groups": 1, "num_labels": 4}
    shared = small.sharpened(transformers.AlbertForSequenceClassification(transformers.AlbertConfig(**sizes)))
    with pytest.raises(ac.AttentionError, match="is in no block|runs more than once"):
        ac.LeGrad(shared).attribute(small.ids(), 1)


class Shrinking(nn.Module):
    """Two stages of layers, between which every second token is dropped."""

    def __init__(self, in_one_list: bool) -> None:
        super().__init__()
        first, second = (nn.TransformerEncoderLayer(24, 3, 32, batch_first=True, dropout=0) for _ in range(2))
        self.layers = nn.ModuleList([first, second] if in_one_list else [first])
        self.later = nn.ModuleList([] if in_one_list else [second])
        self.keep = slice(None, None, 2) if in_one_list else slice(None)

    def forward(self, x: Tensor) -> Tensor:
        first, second = [*self.layers, *self.later]
        return second(first(x)[:, self.keep]).mean(1)


def test_layers_whose_tokens_cannot_stand_for_the_last_ones() -> None:
    x = torch.randn(2, 6, 24)
    with pytest.raises(ac.AttentionError, match=r"layers.0 outputs \(2, 6, 24\), and .* reads \(2, 3, 24\)"):
        ac.LeGrad(Shrinking(in_one_list=True).eval(), layers="layers.0.self_attn").attribute(x, 1, output="tokens")
    with pytest.raises(ac.AttentionError, match=r"layers.0 and later.0 stand in different lists"):
        ac.LeGrad(Shrinking(in_one_list=False).eval()).attribute(x, 1, output="tokens")
