"""Pictures of scores over images and over text, of layers, heads, walks and chains, by matplotlib; figure files."""

from attnchain_interp.pictures.bounces import animate_bounces, show_bounces
from attnchain_interp.pictures.chains import show_chain
from attnchain_interp.pictures.crop import read_part
from attnchain_interp.pictures.figure_files import write_figure
from attnchain_interp.pictures.figures import blank_axes
from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.layers import show_heads, show_layers
from attnchain_interp.pictures.maps import show_attribution, show_grid
from attnchain_interp.pictures.states import show_states
from attnchain_interp.pictures.text_map import show_text

__all__ = [
    "animate_bounces",
    "blank_axes",
    "displayable",
    "read_part",
    "show_attribution",
    "show_bounces",
    "show_chain",
    "show_grid",
    "show_heads",
    "show_layers",
    "show_states",
    "show_text",
    "write_figure",
]
