"""Attention blocks of a running model: attention, and the path from its heads to the addition to the input of the block."""
