"""Sentences of braynsService on which something depends, each as a pattern; no other module reads such a sentence.

The sentences are those of 3.10.1 (run, or recorded) where nothing else is noted.
"""

from __future__ import annotations

import re

# ---- its log --------------------------------------------------------------------------------------------------------
# Lines of 3.0 to 3.10.1 begin with `[info][21:11:45] ` (run). Generations 1 and 2 write no level.
LEVELLED = re.compile(r"\[(trace|debug|info|warn|warning|error|critical|fatal)\]\[[0-9:.]+\] ?")
VERSION = re.compile(r"Brayns version ([0-9]{1,4})\.")
TELLING = re.compile(rf"{VERSION.pattern}|Server started on '|[Rr]ockets server running on ")
NO_LIBRARY = re.compile(r"Error opening dynamic library")
NO_PLUGIN = re.compile(rf"{NO_LIBRARY.pattern}: lib(\S+?)\.so")
PORT_TAKEN = re.compile(r"Address already in use")
UNKNOWN_OPTION = re.compile(r"Unrecognized option|Unknown keyword argument")

# ---- why it refuses `add-model` ---------------------------------------------------------------------------------------
# The loaders of the plugins and those of the core spell it differently.
NO_FILE = re.compile(r"File:? .* does not exists?\b", re.DOTALL)
