"""Configuration of Sphinx; `make docs` treats every warning as an error."""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.application import Sphinx

import hybridflow

project = "hybridflow"
author = "the hybridflow authors"
version = release = hybridflow.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = False  # numpydoc's words for types ("array-like of shape (n, d)") are not references

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False  # a package documents what its __all__ names
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections give the types, with shapes and units
numpydoc_show_class_members = False  # the templates list them
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"hybridflow {release}"
html_copy_source = False


def skip_foreign(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: object
) -> bool | None:
    """Leave out what scikit-learn, pydantic and torch document: it refers to their own pages."""
    function = member.fget if isinstance(member, property) else inspect.unwrap(member)
    module = getattr(function, "__module__", None) or "hybridflow"
    return None if module.split(".")[0] == "hybridflow" else True


def setup(app: Sphinx) -> None:
    """Connect the function above."""
    app.connect("autodoc-skip-member", skip_foreign)
