"""Invalid configuration or input ends before training with exit code 2 and one message with key, value and remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

Stage = Callable[..., int]


def image_folder(root: Path, per_class: int = 6) -> Path:
    """Write train/<class>/<number>.png for two classes, and a test split."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def parquet(path: Path, columns: dict[str, str]) -> Path:
    """Write a parquet file with six rows whose columns are images, classes or numbers."""
    import datasets

    image = Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8))
    kinds = {
        "image": (datasets.Image(), [image] * 6),
        "class": (datasets.ClassLabel(names=["a", "b"]), [0, 1] * 3),
        "number": (datasets.Value("float32"), [0.5] * 6),
    }
    features = datasets.Features({name: kinds[kind][0] for name, kind in columns.items()})
    table = datasets.Dataset.from_dict({name: kinds[kind][1] for name, kind in columns.items()}, features=features)
    table.to_parquet(str(path))
    return path


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["optim.learning_rate=1"], ["optim.learning_rate: unknown key"]),
        (["optm.lr=1"], ["optm: unknown key. Did you mean optim?"]),
        (["train.epochs=many"], ["train.epochs = 'many': must be an integer"]),
        (["model.stem=3Conv+3BN+3RELU+1Prj"], ["model.stem", "3Conv+3BN+3RELU+1Prj", "3Conv+3BN+3ReLU+1Proj"]),
        (["model.stem=pachify"], ["model.stem", "pachify", "patchify"]),
        (["model.name=vit_smal"], ["model.name", "vit_smal", "vit_small"]),
        (["data.image_size=18"], ["data.image_size", "18", "4"]),
        (["model.stem=conv", "model.stem_strides=[2,2,1,2]"], ["model.stem_strides", "4"]),
        (["data.source=nowhere/at/all"], ["data.source", "nowhere/at/all"]),
        (["init=no/such/run"], ["init", "no/such/run"]),
        (["data.images_per_class=none", "data.fraction=0.001"], ["data.fraction", "smallest fraction"]),
        (["data.images_per_class=5000"], ["data.images_per_class", "5000"]),
        (["train.precision=fp16"], ["train.precision", "fp16", "bf16"]),
        (["train.precision=fp16", "optim.name=sam"], ["train.precision", "sam"]),
        (["train.batch_size=21", "augment.mixup=0.5"], ["train.batch_size", "even"]),
        (["optim.lr=-1"], ["optim.lr", "-1", "above 0"]),
        (["optim.lr=.inf"], ["optim.lr = inf: must be a finite number"]),
        (["optim.betas=[1,1]"], ["optim.betas: [1.0, 1.0] must both lie in [0, 1)"]),
        (["optim.momentum=1.5"], ["optim.momentum: 1.5 must lie in [0, 1)"]),
        (["optim.eps=-1"], ["optim.eps: -1.0 must not be negative"]),
        (["optim.weight_decay_end=-1"], ["optim.weight_decay_end: -1.0 must not be negative"]),
        (["optim.warmup_epochs=1e308"], ["optim.warmup_epochs", "must be at most 1000000"]),
        (["train.seed=-1"], ["train.seed: -1 must be at least 0"]),
        (["train.epochs=1000000000000"], ["train.epochs: 1000000000000 must be at most 1000000"]),
        (["train.batch_size=100000000000"], ["train.batch_size: 100000000000 must be at most"]),
        (["data.image_size=1000000"], ["data.image_size: 1000000 must be at least 1 and at most 8192"]),
        (["data.mean=[0,0,1e300]"], ["data.mean: 1e+300 must be between 0 and 1"]),
        (["data.std=[1,1,1e-300]"], ["data.std: 1e-300 must be between 1e-7 and 1000"]),
        (["data.max_corrupt=1"], ["data.max_corrupt: 1.0 must be at least 0 and below 1"]),
        (["data.max_megapixels=1000"], ["data.max_megapixels: 1000 must be between 1 and 178"]),
        (["data.source=" + "x" * 5000], ["data.source = 'xxx", "this path cannot be looked up"]),
        (
            ["data.images_per_class=none", "data.subset_file=" + "x" * 5000],
            ["data.subset_file = 'xxx", "this path cannot be looked up"],
        ),
        (["out=" + "x" * 5000], ["out = 'xxx", "this path cannot be looked up"]),
        (["objective=token_labels"], ["model.name", "vit_mini", "volo_d1"]),
        (["objective=token_labels", "augment.mixup=0.5"], ["augment.mixup", "mixes tokens"]),
        (["objective=token_labels", "token_labels.labels=no/such"], ["token_labels.labels", "no/such"]),
        (["token_labels.mix_token=0"], ["token_labels", "objective=token_labels"]),
    ],
)
def test_invalid_key_or_value_is_reported(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], messages: list[str]
) -> None:
    assert stage("finetune", tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for message in messages:
        assert message in error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("freeze.blocks=5", "freeze.blocks = 5: this network has 4 blocks. Set at most 4"),
        ("freeze={embeddings: true, blocks: 4}", "freeze: freezes the whole network"),
        ("lora={rank: 2, targets: [query]}", "lora.targets: query is not the name of a linear layer"),
        ("lora={rank: 2, targets: []}", "lora.targets: empty: nothing would be trained"),
        ("lora.rank=0", "lora.rank: 0 must be at least 1"),
        ("train.evaluate_every=1", "train.evaluate_every: 1 is supported in fine-tuning only"),
        ("dino.center_momentum=0.5", "dino.center_momentum: 0.5: centering=sinkhorn has no center"),
        ("dino.warmup_teacher_temp=0.01", "dino.warmup_teacher_temp: 0.01 has no effect without a warm-up"),
        ("dino.out_dim=100000000", "dino.out_dim: 100000000 must be at most 4194304"),
        ("dino.out_dim=1", "dino.out_dim: 1 must be at least 2"),
        ("dino.hidden_dim=1000000000000", "dino.hidden_dim: 1000000000000 must be at most"),
        ("crops.num_global=1001", "crops.num_global: 1001: the loss compares global views, use 2 to 1000"),
        (
            "model.patch_size=none; crops={num_local: 2, local_size: 9}",
            "crops.local_size: 9 is not a multiple of 4, the patch size of vit_mini. Try 8",
        ),
        ("crops.local_size=100000", "crops.local_size: 100000 is not a valid size"),
        ("crops.blur_sigma=[1,1e16]", "crops.blur_sigma: (1.0, 1e+16) removes all detail"),
    ],
)
def test_invalid_value_in_pretraining_is_reported(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert stage("pretrain", tmp_path / "run", *override.split("; ")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_pretraining_supports_no_decay_of_embeddings(stage: Stage, tmp_path: Path) -> None:
    assert stage("pretrain", tmp_path / "run", "optim.decay_embeddings=false", "train.epochs=1") == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 140737488355328 bytes."),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_out_of_memory_is_reported_with_the_keys_to_reduce(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("finetune.train.open_images", run_out)
    assert stage("finetune", tmp_path / "run") == 2
    error_output = capsys.readouterr().err
    assert error_output.startswith("error: not enough memory for this recipe")
    assert "train.micro_batch_size" in error_output and "train.grad_checkpointing" in error_output
    assert "train.batch_size" in error_output


def test_other_runtime_errors_are_not_reported_as_user_errors(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("internal error")

    monkeypatch.setattr("finetune.train.open_images", fail)
    with pytest.raises(RuntimeError, match="internal error"):
        stage("finetune", tmp_path / "run")


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_all_problems_are_reported_at_once(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert stage(name, tmp_path / "run", "optim.lr=fast", "nonsense=1", "model.stem=5x5") == 2
    error = capsys.readouterr().err
    assert "optim.lr" in error and "nonsense" in error


def test_missing_recipe_is_reported(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage("finetune", tmp_path / "run", recipe=tmp_path / "none.yaml") == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "messages"),
    [
        ({"picture": "image", "weight": "number"}, ["data.label_column"]),
        ({"left": "image", "right": "image", "label": "class"}, ["data.image_column", "left", "right"]),
        ({"label": "class", "weight": "number"}, ["image"]),
    ],
)
def test_ambiguous_columns_are_named(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: dict[str, str], messages: list[str]
) -> None:
    path = parquet(tmp_path / "data.parquet", columns)
    assert stage("finetune", tmp_path / "run", f"data.source={path}", "data.images_per_class=none") == 2
    error = capsys.readouterr().err
    for message in messages:
        assert message in error


def test_truncated_image_is_reported_with_its_path(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(tmp_path / "images")
    corrupt = root / "train" / "dog" / "3.png"
    corrupt.write_bytes(corrupt.read_bytes()[:200])
    assert stage("finetune", tmp_path / "run", f"data.source={root}", "data.images_per_class=none") == 2
    assert str(corrupt) in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_image_corrupted_during_training_is_reported_without_a_traceback(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    root = image_folder(tmp_path / "images", per_class=20)
    for corrupt in (root / "train").glob("*/*.png"):
        corrupt.write_bytes(corrupt.read_bytes()[:200])
    overrides = (f"data.source={root}", "data.images_per_class=none", "data.verify=none", "data.cache_megabytes=0")
    assert stage("finetune", tmp_path / "run", *overrides, f"data.workers={workers}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {root / 'train'}") and "Traceback" not in error and "worker" not in error


def test_weights_of_another_network_are_reported_by_key(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("pretrain", tmp_path / "other", "model.name=vit_micro", "train.epochs=1") == 0
    capsys.readouterr()
    assert stage("finetune", tmp_path / "run", f"init={tmp_path / 'other'}") == 2
    error = capsys.readouterr().err
    assert "init" in error and "cls_token" in error and "blocks.5" in error


def test_folder_of_another_recipe_is_refused_with_the_difference(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", "train.epochs=1") == 0
    assert stage("finetune", tmp_path / "run", "train.epochs=1", "optim.lr=7e-4") == 2
    error = capsys.readouterr().err
    assert "optim.lr" in error and "0.0007 now" in error and str(tmp_path / "run") in error


def test_failed_start_leaves_the_folder_usable(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run", "init=no/such/run", "train.epochs=1") == 2
    assert stage("finetune", tmp_path / "run", "train.epochs=1") == 0


def test_repeated_command_after_completion_succeeds_without_changes(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run", "train.epochs=1") == 0
    before = (tmp_path / "run" / "result.json").read_text()
    assert stage("finetune", tmp_path / "run", "train.epochs=1") == 0
    assert (tmp_path / "run" / "result.json").read_text() == before
