from pathlib import Path
from recipes.report import write_report


def test_x(study_folder: Path):
    import shutil, os

    write_report(study_folder)
    shutil.rmtree("/tmp/w/d_report", ignore_errors=True)
    shutil.copytree(study_folder, "/tmp/w/d_report")
