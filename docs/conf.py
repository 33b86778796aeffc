"""Sphinx configuration."""

project = "airflow-brayns"
author = "The airflow-brayns authors"
release = "0.2.0"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "airflow-brayns"
smartquotes_action = "qe"  # not `--option`
autodoc_typehints = "none"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
nitpicky = False
