"""What the options of `plan`, `tune` and `run` state: the size of a study, its engine, its folder."""

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.cores import available_cores
from common.errors import UserError
from common.paths import MAX_NAME_BYTES, check_length, user_path
from recipes.command_words import study_words, words_of_size
from recipes.run.build_engine import EngineOptions
from recipes.run.launching import SINGLE_PROCESS
from recipes.run.slots import choose_slots, is_on_cpu
from recipes.sizing.complete import SizeOptions, complete_study
from recipes.study.display import display_path
from recipes.study.folder_names import folder_name, images_of_sized
from recipes.study.kept_levels import name_of_part
from recipes.study.specification import Study
from recipes.study.study_file import build_study


def size_study(
    options: argparse.Namespace, path: Path, study: Study, print_line: Callable[[str], None]
) -> tuple[Study, float | None]:
    """Return a study sized to its images, if it is to be, and the MACs per second that its runs should then reach."""
    if study.mapping.get("size") is None:
        for name in ("budget", "public"):
            if getattr(options, name):
                raise UserError(
                    f"--{name}: study {study.name} is not sized to its images; only my_images is. Remove it."
                )
        return study, None
    is_here = getattr(options, "engine", "local") == "local"
    if not is_here:
        print_line(
            f"{study.name} is sized by the rate of this machine: --budget counts its hours, and --engine {options.engine} may need"
            " fewer or more."
        )
    arguments = _split(getattr(options, "accelerate_args", " ".join(SINGLE_PROCESS)))
    slots = choose_slots(getattr(options, "jobs", None) if is_here else None, arguments)
    mapping, macs_per_second = complete_study(
        study,
        study_folder(options.out, study),
        SizeOptions(options.budget, options.public, shlex.join([*study_words(options), *words_of_size(options)])),
        jobs=slots.count,
        cores=available_cores(),
        may_use_gpu=not is_on_cpu(arguments, os.environ),
        print_line=print_line,
    )
    sized = build_study(mapping, display_path(path), folder=path.parent)
    return replace(sized, slurm=study.slurm, ray=study.ray), macs_per_second


def engine_options_of(options: argparse.Namespace) -> EngineOptions:
    """Return what the command line says about the engine; `plan`, which has none, takes the files of both."""
    slurm = user_path(options.slurm, "--slurm") if options.slurm else None
    ray = user_path(options.ray, "--ray") if options.ray else None
    if options.command == "plan":
        return EngineOptions(slurm_file=slurm, ray_file=ray)
    words, detach = _split(options.accelerate_args), getattr(options, "detach", False)
    return EngineOptions(options.engine, options.jobs, words, options.no_prefork, slurm, detach, ray)


def _split(accelerate_args: str) -> tuple[str, ...]:
    """Return the arguments in the text of --accelerate-args, as a shell splits them."""
    try:
        return tuple(shlex.split(accelerate_args))
    except ValueError as error:
        raise UserError(f"--accelerate-args {accelerate_args}: {error}. Close every quotation mark.") from error


def study_folder(out: str | None, study: Study) -> Path:
    """Return the folder of a study: `--out`, or the default; raise UserError if it is too long for the files of a run."""
    name = "_".join(filter(None, (study.name, images_of_sized(study.mapping), name_of_part(study.mapping))))
    default = Path("outputs", *([study.scale] if study.scale else []), folder_name(name))
    folder = user_path(out or str(default), "--out")
    check_length(folder / "runs" / ("x" * MAX_NAME_BYTES), "--out")
    return folder
