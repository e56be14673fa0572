"""The command `python -m recipes report`: what it imports."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
REPORT = """
import sys
from recipes.__main__ import main
code = main(["report", sys.argv[1]])
print("imported:", *({"torch", "timm", "torchvision", "accelerate", "datasets"} & set(sys.modules)))
sys.exit(code)
"""


def test_the_report_is_written_without_importing_torch(study_folder: Path) -> None:
    command = [sys.executable, "-c", REPORT, str(study_folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
    assert (study_folder / "report.html").is_file()
