"""Chooses settings for decoders and encoders of text: `python -m studies.choose_text_defaults`."""
