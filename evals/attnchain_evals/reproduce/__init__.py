"""Published experiments with real weights and data: the full commands, and the published numbers beside one's own."""
