"""Attention out of timm's models."""
