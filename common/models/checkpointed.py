"""Networks in the checkpoints of runs, as starting weights: the one that the run evaluates and exports."""

from pathlib import Path

from common.checkpoint_files import SUMS, TENSORS, DamagedError, NewerFormatError, checkpoint_paths, read_checkpoint
from common.files import path_exists
from common.models.patch_geometry import RECIPE_FILE, read_recipe
from common.models.several_networks import ChosenNetwork, choose_from_state
from common.models.weights_error import WeightsError


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is the tensors of a checkpoint that a run wrote, with the checksums beside it."""
    return path.name == TENSORS and (path.parent.name.startswith("step-") or path_exists(path.parent / SUMS))


def read_checkpointed(path: Path) -> ChosenNetwork:
    """Return the network that the run would export: DINO's teacher, the average of a fine-tuning, otherwise its network.

    `path` is the file of the checkpoint's tensors. Raise WeightsError if a checksum does not match, for a checkpoint of a later
    version and for one without a network; OSError if the system cannot read it.
    """
    folder = path.parent
    try:
        checkpoint = read_checkpoint(folder, any_name=True)
    except DamagedError as error:
        others = [name for name in step_names(folder.parent) if name != folder.name]
        there = f" ({', '.join(others)})" if others else ""
        raise WeightsError(
            f"the checkpoint {folder} is damaged ({error}); use another one{there} or the run folder, or copy it again"
        ) from error
    except NewerFormatError as error:
        raise WeightsError(f"the checkpoint {folder} {error}; use that version, or other weights") from error
    network = choose_from_state(checkpoint.tensors)
    if network is None:
        names = sorted({name.partition(".")[0] for name in checkpoint.tensors})
        raise WeightsError(
            f"the checkpoint {folder} holds no network, only {' and '.join(names)}; {_own_init(recipe_of(path))}"
        )
    return network


def recipe_of(path: Path) -> Path | None:
    """Return the resolved recipe of the run whose checkpoint has its tensors at this path, or None.

    It is in the run folder, also where the checkpoint was moved to another disk and linked, or beside the tensors.
    """
    folders = (path.absolute().parent, path.resolve().parent)
    candidates = [*(folder.parent.parent for folder in folders), *folders]
    return next((folder / RECIPE_FILE for folder in candidates if _stage(folder / RECIPE_FILE)), None)


def step_names(folder: Path) -> list[str]:
    """Return the names of the checkpoints in a folder, in order of their steps; an empty list if it has none."""
    paths = checkpoint_paths(folder) if folder.is_dir() else {}
    return [paths[step].name for step in sorted(paths)]


def describe_folder_without_weights(folder: Path) -> str:
    """Return what is in a folder that has no weights, and the remedy."""
    if names := step_names(folder):
        return f"has several checkpoints; use one of them: {', '.join(names)}"
    steps, recipe = step_names(folder / "checkpoints"), folder / RECIPE_FILE
    stage = _stage(recipe)
    if stage is not None and stage not in ("pretrain", "finetune"):
        return f"is a run of the stage {stage}, which writes no network; {_own_init(recipe)}"
    text = "has neither export/model.safetensors nor model.safetensors; if it is a run, let it finish"
    return f"{text}, or use one of its checkpoints: {folder}/checkpoints/{steps[-1]}" if steps else text


def _stage(recipe: Path) -> str | None:
    """Return the stage of a run from the first line of its recipe, or None if there is no recipe of a run."""
    if not path_exists(recipe):
        return None
    first = recipe.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("# stage: ").strip() if first.startswith("# stage: ") else None


def _own_init(recipe: Path | None) -> str:
    """Return the remedy for a run whose backbone is frozen: its own starting weights."""
    init = read_recipe(recipe).get("init")
    own = f", {init}," if init else ""
    return f"its backbone is frozen: use the weights{own} that this run started from"
