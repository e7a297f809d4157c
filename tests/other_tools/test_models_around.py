"""Packages that put their own modules around a model: PEFT, Lightning, Sentence Transformers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import attnchain_interp as ac

IDS = torch.tensor([[2, 3, 4, 5, 6], [3, 2, 6, 4, 5]])
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SHAPE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def adapted(model: nn.Module, *targets: str, **options: Any) -> Any:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=list(targets), init_lora_weights=False, **options)).eval()


def classifier() -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=10, **SHAPE)).eval()


def vit() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.models.VisionTransformer(**shape).eval()


def test_low_rank_adapters_of_a_decoder(decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model = adapted(decoder, "q_proj", "v_proj", task_type="CAUSAL_LM")
    store = ac.capture(model, IDS)
    assert store.names[0] == "base_model.model.model.layers.0.self_attn"
    assert torch.equal(store.maps(), ac.capture(model.get_base_model(), IDS).maps())
    with model.disable_adapter():
        assert not torch.allclose(store.maps(), ac.capture(model, IDS).maps())
    assert ac.prove(model, IDS).holds
    written = ac.capture(model.generate, input_ids=IDS[:1], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert len(written.tokens) == 7
    for method in (ac.TokenRank, ac.MultiBounce, ac.ExpectedVisits):
        found: Any = method(model).attribute_text("the cat sat", "on the", tokenizer=tokenizer)
        expected: Any = method(model.get_base_model()).attribute_text("the cat sat", "on the", tokenizer=tokenizer)
        assert torch.allclose(found.token_attr, expected.token_attr, rtol=1e-4)  # a wrapped head, in another order


def test_low_rank_adapters_of_a_classifier() -> None:
    model = adapted(classifier(), "query", "value", task_type="SEQ_CLS")
    mask = torch.ones_like(IDS)
    mask[0, 3:] = 0
    for method in (ac.GradientAttention, ac.LeGrad, partial(ac.Rollout, maps="alti")):
        found = method(model).attribute(IDS, 1, model_kwargs={"attention_mask": mask})
        assert torch.equal(found, method(model.get_base_model()).attribute(IDS, 1, model_kwargs={"attention_mask": mask}))
        assert not found[0, 3:].any()


def test_low_rank_adapters_of_an_encoder_decoder(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = T5Config(vocab_size=10, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    config.decoder_start_token_id = 0
    model = adapted(T5ForConditionalGeneration(config).eval(), "q", "v", task_type="SEQ_2_SEQ_LM")
    given: dict[str, Any] = {"input_ids": IDS, "decoder_input_ids": IDS[:, :3]}
    found = ac.capture_encoder_decoder_gradients(model, **given, target=(1, 3))
    expected = ac.capture_encoder_decoder_gradients(model.get_base_model(), **given, target=(1, 3))
    assert torch.equal(found.cross.gradient(0), expected.cross.gradient(0))
    methods: list[Any] = [ac.MultiBounce(source) for source in (model, model.get_base_model())]
    written, own = (method.attribute_text("the cat sat", tokenizer=tokenizer, max_new_tokens=3) for method in methods)
    assert torch.equal(written.token_attr, own.token_attr)


def test_low_rank_adapters_of_a_model_of_timm() -> None:
    model = adapted(vit(), "qkv", modules_to_save=["head"])
    found = ac.GradientAttention(model).attribute(IMAGES, 1, output="grid")
    assert found.shape == (2, 4, 4)
    assert torch.equal(found, ac.GradientAttention(model.get_base_model()).attribute(IMAGES, 1, output="grid"))


def test_soft_prompts_are_tokens_of_their_own(decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = peft.get_peft_model(decoder, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    assert len(ac.capture(model, IDS).tokens) == 9
    assert ac.TokenRank(model).attribute(IDS, output="tokens").shape == (2, 9)
    with pytest.raises(ac.AttentionError, match=r"scores of \(2, 9\) tokens cannot take the shape \(2, 5\)"):
        ac.TokenRank(model).attribute(IDS)
    with pytest.raises(ac.AttentionError, match="adds tokens of its own"):
        ac.TokenRank(model).attribute_text("the cat sat", "on the", tokenizer=tokenizer)
    prefix = peft.get_peft_model(decoder, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    with pytest.raises(ac.AttentionError, match=r"from 5 to 9 tokens .*a cache of earlier keys"):
        ac.capture(prefix, IDS)


def test_a_module_of_lightning() -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = vit()

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images)

        def predict_step(self, batch: tuple[Tensor, Any], _: int = 0) -> Tensor:
            return self(batch[0]).softmax(-1)

    module = Module().eval()
    expected = ac.capture(module.model, IMAGES)
    for store in (ac.capture(module, IMAGES), ac.capture(module.predict_step, (IMAGES, None))):
        assert torch.equal(store.maps(), expected.maps())
        assert store.names[0] == "model.blocks.0.attn"
    found = ac.GradientAttention(module).attribute(IMAGES, 1)
    assert torch.equal(found, ac.GradientAttention(module.model).attribute(IMAGES, 1))
    assert ac.prove(module, IMAGES).holds


def test_sentence_transformers(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=10, **SHAPE)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = package.SentenceTransformer(str(tmp_path), device="cpu").eval()
    given = dict(tokenizer(["the cat", "the cat sat on"], padding=True, return_tensors="pt"))
    given.pop("token_type_ids", None)
    inner = next(module for module in model.modules() if isinstance(module, BertModel))
    expected = ac.capture(inner, **given)
    store = ac.capture(model, dict(given))
    assert torch.equal(store.maps(), expected.maps())
    assert torch.equal(store.tokens.roles, expected.tokens.roles)
    assert all(name.startswith("0.") for name in store.names)
    assert ac.prove(model, dict(given)).holds
    encoded = ac.capture(model.encode, "the cat sat on", reading=ac.Reading(tokenizer=tokenizer))
    assert encoded.tokens.labels == [["the", "cat", "sat", "on"]]
    found = ac.capture_gradients(model, dict(given), target=lambda output: output["sentence_embedding"][:, 0])
    assert all(bool(found.gradient(layer).any()) for layer in range(len(found)))
    with pytest.raises(ac.AttentionError, match=r"runs more than once"):
        ac.capture(model.encode, ["the cat"] * 3, batch_size=2)
    with pytest.raises(ac.AttentionError, match=r"(?s)inputs is of type dict.*score\(capture\(model, inputs\)\)"):
        ac.TokenRank(model).attribute(given)  # pyright: ignore[reportArgumentType]
