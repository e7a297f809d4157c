"""Attention out of timm's models."""

from attnchain_adapters.timm_models.adapter import TimmAdapter as TimmAdapter
