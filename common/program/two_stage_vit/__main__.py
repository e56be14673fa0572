"""The program as a module: `python -m two_stage_vit <command> ...`."""

from . import main

if __name__ == "__main__":
    main()
