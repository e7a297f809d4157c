"""AttnLRP beside the rules and patches of its authors' package.

lxt 2.1 was written for transformers 4: its table of models does not load on transformers 5, and its patch of attention
replaces a registry by a dictionary. Here its own functions are put into the models by hand.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from attnchain_interp.attribution import AttnLRP

pytest.importorskip("lxt", reason="lxt is not installed")
SIZES: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
LLAMA: dict[str, Any] = {**SIZES, "hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}


@pytest.fixture
def lxt(monkeypatch: pytest.MonkeyPatch) -> Any:
    models: Any = ModuleType("lxt.efficient.models")  # imports a module that transformers 5 has not
    models.get_default_map = None
    monkeypatch.setitem(sys.modules, "lxt.efficient.models", models)
    from lxt.efficient import patches  # pyright: ignore[reportMissingImports]

    return patches


def by_lxt(model: Any, ids: Tensor, target: int, attention: Any) -> Tensor:
    registry = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS
    registry.register("lxt", attention(registry["sdpa"]))
    model.set_attn_implementation("lxt")
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs_embeds=embedded).logits[:, -1, target].sum(), embedded)
    model.set_attn_implementation("sdpa")
    return (embedded.detach() * gradient).sum(-1)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_relevance_is_that_of_lxt(family: str, lxt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    ids = torch.randint(1, 60, (2, 7))
    if family == "gpt2":
        config = transformers.GPT2Config(n_embd=48, n_layer=2, n_head=3, n_positions=32, **SIZES)
        model: Any = transformers.GPT2LMHeadModel(config).eval()
    elif family == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    else:
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**LLAMA)).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = 0.3 * torch.randn(weight.shape)
    found = AttnLRP(model).attribute(ids, (6, 3), output="tokens")

    def mlp(self: Any, hidden: Tensor) -> Tensor:
        return self.c_proj(lxt.identity_rule_implicit(self.act, self.c_fc(hidden)))

    patched: dict[type, Any] = {nn.LayerNorm: lxt.layer_norm_forward, GPT2MLP: mlp}
    if family != "gpt2":
        both = {LlamaMLP: LlamaRMSNorm, Qwen2MLP: Qwen2RMSNorm}
        patched = dict.fromkeys(both, lxt.gated_mlp_forward) | dict.fromkeys(both.values(), lxt.rms_norm_forward)
    for kind, forward in patched.items():
        monkeypatch.setattr(kind, "forward", forward)
    expected = by_lxt(model, ids, 3, lxt.wrap_attention_forward)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-2
