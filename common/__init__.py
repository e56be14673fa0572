"""Code shared by both stages: networks and stems, data and subsets, training state, evaluation, configuration."""

import sys

if sys.platform == "win32":
    raise SystemExit(
        "error: two-stage-vit does not run on Windows itself. Install it in WSL (`wsl --install`), where all commands work."
    )
