"""Put this project's packages first on the import path where another folder or module named `common` is found before ours.

The stages execute this file by its path before they import anything of ours (`runpy.run_path`): `import common` could be a folder
`common` of the user's own in the working directory.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

OWN = Path(__file__).resolve().parent


def is_own() -> bool:
    """Return whether `import common` gives the package that this file belongs to."""
    try:
        spec = find_spec("common")
    except (ImportError, ValueError):  # ValueError: a module without a specification
        return False
    return spec is not None and any(Path(place).resolve() == OWN for place in spec.submodule_search_locations or ())


if not is_own():
    if "common" in sys.modules:
        other = sys.modules["common"]
        place = getattr(other, "__file__", None) or next(iter(getattr(other, "__path__", [])), "unknown")
        raise ImportError(
            f"`common` has been imported from {place}, which is not the package of two-stage-vit ({OWN}). Import the packages of "
            "two-stage-vit in a process of their own, or rename that module."
        )
    sys.path.insert(0, str(OWN.parent))
