"""Attention out of Hugging Face transformers' models."""
