"""Segments of photographs from attention: regions, objects, what belongs to a point, and the files of each."""

from attnchain_evals.segments.segmentation import segment
from attnchain_evals.segments.segments import Segments

__all__ = ["segment", "Segments"]
