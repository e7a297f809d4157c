"""The documentation site: `sphinx-build -W --keep-going -n docs docs/_build`, offline; docs/_build is not checked in.

Docstrings are prose with `code` in single backticks. This file turns them into reStructuredText: a public name becomes a link,
and so does docs/PAGE.md; other code becomes a literal, and bars stay bars (|λ₂|). Formulas between dollars are set by MathJax,
whose script the reader's browser loads; the build needs no network.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from studies.notebooks import notebooks, write
from studies.public_names import public_names

project = "attnchain-interp"
author = "The attnchain-interp authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = installed(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 80

# Types of other packages, which there is no network to look up, and aliases that the text around them explains.
nitpick_ignore_regex = [("py:.*", r"(?!attnchain).*"), ("py:.*", r"attnchain_\w+\.(?:\w+\.)+(?!_)[A-Z]\w*")]

PUBLIC = {name: dotted for dotted, name in reversed(public_names().items())}  # of the core where several have it
PUBLIC |= {f"{dotted.split('.')[1]}.{name}": dotted for dotted, name in public_names().items()}  # diffusion.concept_map
PUBLIC |= {f"ac.{name}": PUBLIC[name] for name in [*PUBLIC]}
CODE = re.compile(r"``.+?``|`(?P<code>[^`]+)`|\bdocs/(?P<page>[\w/-]+)\.md|(?P<special>\||_(?=\W|$))")


def marked_up(text: str) -> str:
    """Returns a paragraph's prose as reStructuredText."""

    def replaced(match: re.Match[str]) -> str:
        code = match["code"]
        if match["page"] is not None:
            return f":doc:`/{match['page']}`"
        if code is None:
            return f"\\{match[0]}" if match["special"] else match[0]
        return f":py:obj:`{code} <{PUBLIC[code]}>`" if code in PUBLIC else f"``{code}``"

    return CODE.sub(replaced, text)


def docstring_as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Marks up all but doctests. A constant has the docstring of its type, which is left out."""
    text = "" if what == "data" else "\n".join(lines)
    parts = re.split(r"((?:^ *>>> .*\n?)(?:^ *\S.*\n?)*)", text, flags=re.MULTILINE)
    lines[:] = "".join(part if number % 2 else marked_up(part) for number, part in enumerate(parts)).split("\n")


def offer_notebook(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Puts a link to the notebook of a page above the page."""
    if pagename in notebooks():
        name = f"{pagename.rpartition('/')[2]}.ipynb"
        context["body"] = f'<p><a href="{name}" download>This page as a notebook</a></p>\n{context["body"]}'


def write_notebooks(app: Any, exception: Exception | None) -> None:
    """Writes the notebooks beside the pages of the site."""
    if exception is None and app.builder.format == "html":
        write(Path(app.outdir))


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", docstring_as_rst, priority=100)  # before napoleon
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", write_notebooks)
