"""Published experiments on real weights and data: each prints its own numbers beside the published ones."""
