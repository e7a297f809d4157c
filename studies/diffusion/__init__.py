"""The study of the bundled diffusion model: guidance of samples, scored by a digit classifier, and segmentation."""
