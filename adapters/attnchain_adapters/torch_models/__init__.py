"""Attention out of plain PyTorch models."""

from attnchain_adapters.torch_models.adapter import TorchAdapter

__all__ = ["TorchAdapter"]
