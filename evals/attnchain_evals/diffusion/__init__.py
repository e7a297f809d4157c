"""Diffusion models: the bundled one and its task, guidance and segmentation by attention, their scores."""
