"""Pictures of scores: over images by matplotlib, over text as HTML."""

from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.maps import show_attribution, show_grid
from attnchain_interp.pictures.text import text_html

__all__ = ["displayable", "show_attribution", "show_grid", "text_html"]
