"""Weights of 8 and 4 bits: the store is the attention of the quantised model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac

quantization: Any = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

SIZES = {"vocab_size": 60, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
IDS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(1))


def plain() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)).eval()  # type: ignore[arg-type]


def loaded(config: Any, folder: Path) -> Any:
    plain().save_pretrained(folder)
    kind = transformers.LlamaForCausalLM
    return kind.from_pretrained(folder, quantization_config=config, device_map="cpu").eval()


def in_place(config: Any, _: Path) -> Any:
    model = plain()
    quantization.quantize_(model, config)
    return model


of_torch: Any = torch
EIGHT, FOUR = quantization.Int8WeightOnlyConfig(), quantization.IntxWeightOnlyConfig(weight_dtype=of_torch.int4)
BITS: dict[str, Callable[[Path], Any]] = {
    "torchao, 8 bits, loaded": lambda folder: loaded(transformers.TorchAoConfig(EIGHT), folder),
    "torchao, 8 bits": lambda folder: in_place(EIGHT, folder),
    "torchao, 4 bits": lambda folder: in_place(FOUR, folder),
    "bitsandbytes, 8 bits": lambda folder: loaded(transformers.BitsAndBytesConfig(load_in_8bit=True), folder),
    "bitsandbytes, 4 bits": lambda folder: loaded(
        transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32), folder
    ),
}
every_way = pytest.mark.parametrize("load", BITS.values(), ids=BITS)


@every_way
def test_the_store_is_the_quantised_models_own_attention(load: Callable[[Path], Any], tmp_path: Path) -> None:
    model = load(tmp_path)
    store, exact = ac.capture(model, IDS), ac.capture(plain(), IDS)
    assert float((store.maps() - exact.maps()).abs().max()) > 1e-4, "the weights are those of the exact model"
    proof = ac.prove(model, IDS)  # some kernels round activations too, so the output moves a little by itself
    assert min(layer.moved for layer in proof.layers) > 50 * proof.deviation
    scores = ac.TokenRank(model, maps="attention").attribute(IDS, output="tokens")
    assert torch.equal(scores, ac.TokenRank().score(store))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = torch.stack(model(IDS, output_attentions=True).attentions, 1)
    assert torch.allclose(ac.capture(model, IDS).maps(), own, atol=1e-7)
    assert torch.allclose(store.maps(), own, atol=1e-3)  # a last digit of the first layer may round an activation of the next


ASKED: dict[str, Callable[[Any], torch.Tensor]] = {
    "gradients": lambda model: ac.GradientAttention(model).attribute(IDS, (8, 5), output="tokens"),
    "contributions": lambda model: ac.capture(model, IDS, maps="alti").maps(),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("way", [way for way in BITS if way.startswith("torchao")])
def test_gradients_and_contributions_are_those_of_the_rounded_weights(
    way: str, ask: Callable[[Any], torch.Tensor], tmp_path: Path
) -> None:
    model, rounded = BITS[way](tmp_path), plain()
    for name, layer in rounded.named_modules():
        if isinstance(layer, torch.nn.Linear):
            weight: Any = model.get_submodule(name).weight
            layer.weight.data = weight.dequantize() if hasattr(weight, "dequantize") else weight.data
    assert torch.allclose(ask(model), ask(rounded), atol=1e-4)
    assert not torch.allclose(ask(model), ask(plain()), atol=1e-4, rtol=0) or way != "torchao, 4 bits"


@pytest.mark.parametrize(
    ("way", "asked", "reason"),
    [
        (
            "bitsandbytes, 8 bits",
            "contributions",
            "its output is not added to an input of a module around it, or of the norm before it",
        ),
        ("bitsandbytes, 4 bits", "contributions", "weights of few bits"),
    ],
)
def test_kernels_that_hide_their_arithmetic_are_refused(way: str, asked: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ac.AttentionError, match=reason):
        ASKED[asked](BITS[way](tmp_path))
