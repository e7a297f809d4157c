"""Recording off a running model: what is computed, precision, threads, and inputs that a model of images cannot take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_adapters.attention_calls import fused_factors

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


@every_model
def test_methods_just_work(build: Callable[[], Any]) -> None:
    model = build()
    images = pixels(model)
    scores = ac.TokenRank(model).attribute(images)
    assert (scores.shape, scores.is_contiguous()) == (images.shape, True)
    assert torch.allclose(ac.TokenRank(model).attribute(images, output="tokens").sum(1), torch.ones(2), atol=1e-5)
    rows = ac.RawAttention(model, 0, layers=-1).attribute(images, output="tokens")
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

    monkeypatch.setattr("attnchain_adapters.attention_calls.fused_factors", counted)
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
    with pytest.raises(ac.AttentionError, match='(?s)3 of 3 attention layers showed no map.*Load the model with "sdpa"'):
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


@pytest.mark.parametrize("kind", ["causal", "bool mask", "float mask", "grouped heads", "scale"])
def test_fused_factors_give_the_fused_output(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    options: dict[str, Any] = {
        "causal": {"is_causal": True},
        "bool mask": {"attn_mask": torch.rand(6, 6, generator=generator) + torch.eye(6) > 0.5},
        "float mask": {"attn_mask": torch.randn(1, 4, 6, 6, generator=generator)},
        "grouped heads": {"enable_gqa": True},
        "scale": {"scale": 0.7},
    }[kind]
    if kind == "grouped heads":
        key, value = key[:, :2], value[:, :2]
    output = F.scaled_dot_product_attention(query, key, value, **options)
    wide = value.repeat_interleave(2, 1) if kind == "grouped heads" else value
    assert torch.allclose(fused_factors(query, key, value, **options).maps() @ wide, output, atol=1e-5)


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


def test_active_attention_dropout_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match=r"attention dropout 0\.1 is active"):
        fused_factors(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), dropout_p=0.1)


def _tensors(output: Any) -> list[Tensor]:
    values = [output] if isinstance(output, Tensor) else output.values()
    return [value for value in values if isinstance(value, Tensor)]
