"""Attribution of texts: hooks of the methods, prompts, outputs, rows of decoders and of encoder–decoders, results."""
