"""Arguments of the command line of the studies."""

import argparse

from common.errors import UserError
from recipes.run.launching import SINGLE_PROCESS
from recipes.study.display import display_path
from recipes.study.scales import scale_names
from recipes.study.schema_types import SCHEMAS
from recipes.study.specification import REPOSITORY


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the parsed command line; exit with a usage message if it is invalid."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if unknown := [
        word
        for word in rest
        if word.startswith("-") or "=" not in word or options.command not in ("plan", "run", "tune")
    ]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:  # argparse does not accept key=value words after an option
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m recipes", description="Plan and run studies, and report on them.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the studies with their questions")
    schema = commands.add_parser("schema", help="write the JSON schemas of recipes, studies and scales, for editors")
    schema.add_argument(
        "--out", metavar="FOLDER", default=display_path(SCHEMAS), help="where they are written (default: %(default)s)"
    )
    plan = commands.add_parser("plan", help="print every run of a study and its cost; nothing is started")
    run = commands.add_parser("run", help="run what is not done, then write the report")
    tune = commands.add_parser(
        "tune", help="choose the lengths of a study's arms on validation images; `run` does it, too"
    )
    for command in (plan, run, tune):
        _add_study_arguments(command)
    for command in (plan, run):
        command.add_argument(
            "--epochs-factor",
            type=float,
            default=1.0,
            metavar="F",
            help="factor on the epochs of every stage of every arm, after matching and choices (default: 1)",
        )
    tune.add_argument("--save", action="store_true", help="also write the choices beside the study's file")
    for command in (run, tune):
        _add_engine_arguments(command)
    run.add_argument(
        "--detach",
        action="store_true",
        help="with --engine slurm: submit every run and return; the same command later reports",
    )
    plan.add_argument(
        "--tera-macs-per-second",
        type=float,
        metavar="T",
        help="throughput of one device in 1e12 MACs per second, to estimate the hours",
    )
    plan.add_argument("--verbose", action="store_true", help="also print the command of every run")
    report = commands.add_parser("report", help="regenerate a study's report from its run folders")
    report.add_argument("folder", help="folder of the study (the --out of `run`)")
    status = commands.add_parser(
        "status", help="print the state of every run of a study: waiting, running where, how far, failed why"
    )
    status.add_argument("folder", help="folder of the study (the --out of `run`)")
    _add_publish(commands)
    return parser


def _add_publish(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command that stores results for the documents."""
    publish = commands.add_parser(
        "publish",
        help="store a study's results under docs/results/, and write the numbers and figures of the documents",
    )
    publish.add_argument(
        "folder", nargs="?", help="folder of the study to store (default: store nothing, only write the documents)"
    )
    publish.add_argument(
        "--name",
        help="name of its folder under docs/results/ (default: study, images of a sized one, scale, epochs factor)",
    )
    publish.add_argument("--note", help="what its files do not say about the machine, such as other work on it")
    publish.add_argument(
        "--check", action="store_true", help="write nothing; list what differs, with exit code 1 if anything does"
    )
    publish.add_argument(
        "--root",
        metavar="FOLDER",
        default=display_path(REPOSITORY),
        help="folder with README.md and docs/ (default: %(default)s)",
    )


def _add_engine_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say where and how runs are started."""
    command.add_argument(
        "--engine",
        choices=["local", "slurm", "ray"],
        default="local",
        help="where runs are executed: on this machine, on the Slurm cluster to which it submits, or on a Ray cluster"
        " (default: local)",
    )
    command.add_argument(
        "--jobs",
        type=int,
        help="number of runs at a time (default: one per GPU, up to four where steps are small; without a GPU one per core, at most"
        " 8; 1000 in Slurm's queue or in Ray)",
    )
    command.add_argument(
        "--no-prefork",
        action="store_true",
        help="start each run as a new process instead of forking it from a preloaded one",
    )
    command.add_argument(
        "--accelerate-args",
        default=" ".join(SINGLE_PROCESS),
        metavar="ARGS",
        help="arguments of `accelerate launch` for each run (default: %(default)s)",
    )


def _add_study_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that select a study and its runs."""
    command.add_argument(
        "--slurm", metavar="FILE", help="YAML file with keys of the section slurm, which override those of the study"
    )
    command.add_argument(
        "--ray", metavar="FILE", help="YAML file with keys of the section ray, which override those of the study"
    )
    command.add_argument("study", help="name of a study (see list), or path of a study's YAML file")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="recipe keys for all stages; <stage>.key=value for one stage"
    )
    command.add_argument(
        "--only",
        metavar="PATTERN",
        help="only runs whose name contains PATTERN (* matches anything), and the runs they start from",
    )
    command.add_argument(
        "--scale", metavar="NAME", help=f"scale of a paper's study: {', '.join(scale_names())} (see list)"
    )
    command.add_argument("--seeds", metavar="0,1,2", help="seeds of the repeats (default: those of the scale or study)")
    command.add_argument(
        "--levels",
        action="append",
        default=[],
        metavar="AXIS=LEVEL,...",
        help="only these levels of an axis, such as fraction=0.1: a study of its own, whose runs are those of the whole one; may"
        " be repeated for other axes",
    )
    command.add_argument(
        "--budget",
        metavar="TIME",
        help="time that a study sized to its images may take here, such as 30m, 2h or 1d (default: 2h)",
    )
    command.add_argument(
        "--public",
        metavar="WEIGHTS",
        help="public weights that such a study compares with, in the forms of init (default: DINOv2); none: without",
    )
    command.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the study (default: outputs/[<scale>/]<name>; of a study sized to its images <name>_<their name>)",
    )


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """Return the seeds of a comma-separated list."""
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--seeds {text}: must be comma-separated integers, such as 0,1,2.") from error
