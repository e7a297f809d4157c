"""Recording off a running model: what is computed, precision, threads, and inputs that a model of images cannot take."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.recording.fused_factors import fused_factors

SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32}
SQUARE = {"image_size": 64, "patch_size": 16}
HF: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "vit": ("ViTConfig", "ViTForImageClassification", SQUARE, ["class"]),
    "dinov2": ("Dinov2Config", "Dinov2Model", SQUARE, ["class"]),
    "dinov3": (
        "DINOv3ViTConfig",
        "DINOv3ViTModel",
        {**SQUARE, "num_register_tokens": 2},
        ["class", "register", "register"],
    ),
}


def hf_model(family: str, implementation: str = "sdpa") -> Any:
    config, model, extra, _ = HF[family]
    torch.manual_seed(0)
    built = getattr(transformers, model)(getattr(transformers, config)(**SMALL, **extra))
    built.set_attn_implementation(implementation)
    return sharpen(built.eval())


def sharpen(model: nn.Module) -> nn.Module:
    """Random weights attend almost uniformly, so that any two maps agree: make queries and keys count."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and any(part in name for part in ("qkv", "q_proj", "k_proj", "query", "key")):
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
        elif "relative_position_bias_table" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def pixels(model: Any, batch: int = 2) -> Tensor:
    size = model.patch_embed.img_size if hasattr(model, "patch_embed") else (64, 64)
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(2))


MODELS: dict[str, Callable[[], Any]] = {
    **{f"hf {family}": (lambda family=family: hf_model(family)) for family in HF},
}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def test_eager_models_are_read_off_their_softmax() -> None:
    model = hf_model("vit")
    eager = ac.capture(hf_model("vit", "eager"), pixels(model))
    assert eager.metadata["route"] == "softmax"
    assert torch.allclose(eager.maps(), ac.capture(model, pixels(model)).maps(), atol=1e-5)


@pytest.mark.parametrize(("implementation", "keep"), [("sdpa", "maps"), ("sdpa", "factors"), ("eager", "maps")])
def test_value_norms_are_those_of_the_heads(implementation: str, keep: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**SMALL, "vocab_size": 20, "num_key_value_heads": 1}
    model: Any = transformers.LlamaModel(transformers.LlamaConfig(**sizes)).eval()
    model.set_attn_implementation(implementation)
    seen: list[Tensor] = []
    for layer in model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda *given: seen.append(given[-1]))
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
    store = ac.capture(model, torch.arange(10).view(2, 5), attention_mask=mask, keep=keep)
    for layer, values in zip(store, seen, strict=True):
        assert layer.value_norms is not None
        expected = values.norm(dim=-1)[:, None].expand(-1, 3, -1)
        assert torch.allclose(layer.value_norms, expected, atol=1e-6)
        assert layer.value_norms.shape == (2, 3, 5)


def test_value_norms_beside_gradients_are_outside_their_graph() -> None:
    model = hf_model("vit")
    found = ac.capture_gradients(model, pixels(model), target=0)
    kept = found.store[0].value_norms
    assert kept is not None
    assert not kept.requires_grad
    plain = ac.capture(model, pixels(model))[0].value_norms
    assert plain is not None
    assert torch.allclose(kept, plain, atol=1e-6)


@every_model
def test_methods_just_work(build: Callable[[], Any]) -> None:
    model = build()
    images = pixels(model)
    scores = ac.TokenRank(model).attribute(images)
    assert (scores.shape, scores.is_contiguous()) == (images.shape, True)
    assert torch.allclose(ac.TokenRank(model).attribute(images, output="tokens").sum(1), torch.ones(2), atol=1e-5)
    rows = ac.RawAttention(model, token=0, layers=-1).attribute(images, output="tokens")
    assert torch.allclose(rows, ac.capture(model, images).maps()[:, -1].mean(1)[:, 0, :], atol=1e-6)
    ac.Rollout(model).attribute(images)


@pytest.mark.parametrize("build", [MODELS["hf vit"]], ids=["hf"])
def test_only_the_layers_asked_for_are_computed(build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    everything = ac.capture(model, pixels(model))
    made: list[ac.Factors] = []

    def counted(*args: Any, **kwargs: Any) -> ac.Factors:
        made.append(fused_factors(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("attnchain_adapters.recording.attention_calls.fused_factors", counted)
    last = ac.capture(model, pixels(model), layers=-1)
    assert last.names == everything.names[-1:]
    assert torch.equal(last[0].maps, everything[-1].maps)
    assert len(made) == 1
    with pytest.raises(ac.AttentionError, match="layer 3 does not exist; there are 3"):
        ac.capture(model, pixels(model), layers=3)


@pytest.mark.parametrize("build", [MODELS["hf vit"]], ids=["hf"])
def test_inputs_that_are_no_images_of_the_right_size(build: Callable[[], Any]) -> None:
    model = build()
    with pytest.raises(ac.AttentionError, match="the images are 60×64 but .* wants 64×64"):
        ac.capture(model, torch.randn(1, 3, 60, 64))
    with pytest.raises(ac.AttentionError, match=r"floating-point tensor .*; got torch.float32 \(3, 64, 64\)"):
        ac.capture(model, torch.randn(3, 64, 64))
    with pytest.raises(ac.AttentionError, match="got torch.uint8"):
        ac.capture(model, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ac.AttentionError, match="got NoneType"):
        ac.capture(model)


def test_models_of_any_size_get_their_grid_from_the_image() -> None:
    images = torch.randn(1, 3, 64, 96)
    assert ac.capture(hf_model("dinov2"), images).tokens.grid == (4, 6)
    assert ac.capture(hf_model("dinov3"), images).tokens.grid == (4, 6)
    assert ac.capture(hf_model("vit"), images, interpolate_pos_encoding=True).tokens.grid == (4, 6)


def test_half_precision_maps_are_computed_wider() -> None:
    model = hf_model("vit").to(torch.bfloat16)
    store = ac.capture(model, pixels(model).to(torch.bfloat16))
    assert store[0].maps.dtype == torch.float32
    assert float((store.maps().sum(-1) - 1).abs().max()) < 1e-5


def test_an_implementation_that_hides_its_weights_says_so() -> None:
    model = hf_model("vit")
    for module in model.modules():
        if type(module).__name__ == "ViTAttention":
            module.forward = lambda hidden, *_, **__: (hidden, torch.zeros(2, 3, 17))  # as flex: a log-sum-exp
    with pytest.raises(
        ac.AttentionError, match=r"(?s)3 of 3 attention layers showed no map.*by what it computes: reading=ac.Reading\(tokens"
    ):
        ac.capture(model, pixels(model))


def test_two_threads_capture_one_model() -> None:
    model = hf_model("vit")
    batches = [pixels(model) * scale for scale in (0.5, 2.0)]
    alone = [ac.capture(model, images).maps() for images in batches]
    found: dict[int, list[Tensor]] = {0: [], 1: []}

    def work(k: int) -> None:
        for _ in range(5):
            found[k].append(ac.capture(model, batches[k]).maps())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        assert len(found[k]) == 5
        assert all(torch.equal(maps, alone[k]) for maps in found[k])


@pytest.mark.gpu
@pytest.mark.parametrize("build", [MODELS["hf vit"]], ids=["hf"])
def test_a_gpu_gives_what_the_cpu_gives(build: Callable[[], Any]) -> None:
    model = build()
    images = pixels(model)
    for method in (ac.TokenRank(model, heads="lambda2"), ac.MultiBounce(model, start=0), ac.Rollout(model)):
        expected = method.attribute(images)
        model.cuda()
        found = method.attribute(images.cuda())
        model.cpu()
        assert found.is_cuda
        assert torch.allclose(found.cpu(), expected, atol=1e-5)


def _tensors(output: Any) -> list[Tensor]:
    values = [output] if isinstance(output, Tensor) else output.values()
    return [value for value in values if isinstance(value, Tensor)]


class SelfSelf(nn.Module):
    """Attention of a user's own, which takes the place of a framework's."""

    def __init__(self, width: int = 48, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        query, _key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return ((query @ query.mT).softmax(-1) @ value).transpose(1, 2).flatten(2)


class Attending(nn.Module):
    """A head that attends among the tokens before it classifies."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.classify = SelfSelf(), nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.attend(x).mean(1))


def timm_model() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 4}
    return timm.models.VisionTransformer(**shape, global_pool="").eval()


@pytest.mark.parametrize("where", [[2], [0, 1]])
def test_a_block_with_another_class_of_attention_is_a_layer(where: list[int]) -> None:
    model = timm_model()
    for block in where:
        model.blocks[block].attn = SelfSelf()
    proof = ac.prove(model, pixels(model))
    assert proof.holds
    assert proof.store.names == [f"blocks.{k}.attn" for k in range(3)]
    last = ac.capture(model, pixels(model), layers=-1)
    assert last.names == ["blocks.2.attn"]
    assert last.unread == ("blocks.0.attn", "blocks.1.attn")


def test_where_all_blocks_have_another_class_the_message_says_how_to_read_them() -> None:
    model = timm_model()
    for block in model.blocks:
        block.attn = SelfSelf()
    with pytest.raises(ac.AttentionError, match=r"(?s)this VisionTransformer has no attention module.*TokenLayout.image\("):
        ac.capture(model, pixels(model))
    reading = ac.Reading(tokens=ac.TokenLayout.image(grid=(4, 4), class_token=True))
    assert ac.prove(model, pixels(model), reading=reading).holds
    assert ac.capture(model, pixels(model), reading=reading).names == [f"blocks.{k}.attn" for k in range(3)]


def test_projections_and_norms_are_not_followed() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.LayerNorm(4), nn.MultiheadAttention(4, 1), nn.Identity())

    def followed() -> list[str]:
        return [name for name, module in model.named_modules() if module._forward_pre_hooks and module._forward_hooks]

    with AttentionRecorder(model, {"4": ["4"]}, {"4"}, None):
        assert followed() == ["", "1", "3", "4"]
    assert not followed()


def test_a_module_that_is_copied_in_the_forward_is_followed() -> None:
    class Copying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Attending()

        def forward(self, x: Tensor) -> Tensor:
            return copy.deepcopy(self.inner)(x)

    assert ac.capture(Copying().eval(), torch.rand(2, 5, 48)).names == ["inner.attend"]


def test_attention_outside_of_the_known_layers_is_refused_by_name() -> None:
    model = timm_model()
    model.head = Attending()
    line = r"ac.Reading\(tokens=ac.TokenLayout.image\(grid=\(4, 4\), class_token=True\)\)"
    for layers in ("all", -1, slice(0, 2)):
        with pytest.raises(ac.AttentionError, match=rf"(?s)outside of the known layers .*in head.attend \(SelfSelf\).*{line}"):
            ac.capture(model, pixels(model), layers=layers)
    with pytest.raises(ac.AttentionError, match="in head.attend"):
        ac.prove(model, pixels(model))
    with pytest.raises(ac.AttentionError, match="in head.attend"):
        ac.GradientAttention(model).attribute(pixels(model), 1)
    named = ac.capture(model, pixels(model), layers=["blocks.1.attn"])
    assert named.unread == ("blocks.0.attn", "blocks.2.attn", "head.attend")
    reading = ac.Reading(tokens=ac.TokenLayout.image(grid=(4, 4), class_token=True))
    assert ac.capture(model, pixels(model), reading=reading).names[-1] == "head.attend"


def test_what_changes_after_the_softmax_is_captured() -> None:
    def greatest(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, scaling: float = 1, **__: Any) -> Any:
        weights = torch.softmax(query @ key.mT * scaling, -1)
        weights = weights.masked_fill(weights < weights.topk(4).values[..., -1:], 0)
        weights = weights / weights.sum(-1, keepdim=True)
        return (weights @ value).transpose(1, 2), weights

    transformers.AttentionInterface.register("greatest", greatest)
    model = hf_model("vit", "greatest")
    own = model(pixels(model), output_attentions=True).attentions
    store = ac.capture(model, pixels(model))
    assert all(torch.equal(layer.maps, maps) for layer, maps in zip(store, own, strict=True))
    assert int((store.maps() > 0).sum(-1).max()) == 4
    assert ac.prove(model, pixels(model)).holds


def test_a_head_with_nan_is_named_with_its_layer_and_layers_before_it_have_answers() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3).eval()
    model.blocks[1].attn.qkv.weight.data[:16] = torch.nan  # type: ignore[index, union-attr]
    images = torch.randn(2, 3, 32, 32)
    refusal = r"layer 'blocks.1.attn': query holds NaN or infinity.*\(0, 0\), \(1, 0\)\.(?s:.*)layers=\[…\]"
    with pytest.raises(ac.AttentionError, match=refusal):
        ac.capture(model, images)
    assert ac.TokenRank(model, layers=[0]).attribute(images).isfinite().all()
