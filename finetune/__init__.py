"""The second stage (or the only one): supervised training with AdamW, SGD or SAM."""

import runpy
from pathlib import Path

# a folder `common` of the user's own must not take the place of ours
runpy.run_path(str(Path(__file__).resolve().parents[1] / "common" / "import_path.py"))
