"""The sha256 of files, of tensors and of models."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn


def digest(tensor: Tensor) -> str:
    """Returns the sha256 of type, shape and numbers."""
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor_bytes(tensor)).hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """Returns the numbers of a tensor as they lie in memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def model_identity(model: nn.Module) -> dict[str, str]:
    """Returns the class, the device, and the sha256 of the structure and of every parameter and buffer, also of those that
    `state_dict` leaves out."""
    found = hashlib.sha256(repr(model).encode())
    for name, tensor in {**dict(model.named_buffers()), **model.state_dict()}.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor_bytes(tensor))
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"class": type(model).__qualname__, "sha256": found.hexdigest(), "device": where}


def sha256(path: Path) -> str:
    """Returns the sha256 of a file in hexadecimal digits, as the program sha256sum prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
