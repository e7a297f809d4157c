"""The sha256 of tensors."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """Returns the sha256 of type, shape and numbers."""
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor_bytes(tensor)).hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """Returns the numbers of a tensor as they lie in memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
