"""Attention of a running model: the functions that attend, and the recorder that sees them."""
