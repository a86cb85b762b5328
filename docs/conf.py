"""
Sphinx: MyST pages, Furo, and the reference from the code's own docstrings.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for command_reference

project = "bedrock_guard"
author = "the bedrock_guard authors"
copyright = author  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_reference"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "bedrock_guard"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
napoleon_use_ivar = True
nitpicky = False
