"""Environment variables and settings of accelerate that would change what a recipe computes: they are refused by name."""

# Every variable that accelerate 1.15 and PyTorch 2.15 read was looked at. Those that are not below are
# - overridden by what `build_accelerator` passes to Accelerator or sets itself: ACCELERATE_GRADIENT_ACCUMULATION_STEPS,
#   ACCELERATE_MIXED_PRECISION, ACCELERATE_FP8_*, ACCELERATE_DYNAMO_*, ACCELERATE_USE_IPEX, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE (which
#   NVIDIA's containers set), ACCELERATE_LOG_LEVEL, or by `enable_grad_checkpointing`: TIMM_REENTRANT_CKPT;
# - without effect unless one of those below is set: FSDP_*, MEGATRON_LM_*, PARALLELISM_CONFIG_*, ACCELERATE_DEEPSPEED_*,
#   ACCELERATE_GRADIENT_CLIPPING, ACCELERATE_CONFIG_DS_FIELDS, ACCELERATE_ALLOW_CP_STANDALONE, ACCELERATE_SAGEMAKER_*;
# - without effect on numbers: ACCELERATE_USE_CPU (the device, which environment.json records), ACCELERATE_DEBUG_MODE,
#   ACCELERATE_CPU_AFFINITY, ACCELERATE_BYPASS_DEVICE_MAP and ACCELERATE_INIT_INCLUDE_BUFFERS (models in parts), split and even
#   batches (of accelerate's loaders, which are not used), KMP_*, NCCL_*, GLOO_*, PYTORCH_ALLOC_CONF;
# - a choice between algorithms of the same precision, as between two machines: OMP_NUM_THREADS, ATEN_CPU_CAPABILITY, MKL_CBWR,
#   ONEDNN_MAX_CPU_ISA, CUBLAS_WORKSPACE_CONFIG, TORCH_CUDNN_*, PYTORCH_TUNABLEOP_*, other TORCHINDUCTOR_* variables.

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError

TRUE, FALSE = {"1", "true", "yes", "on", "y", "t"}, {"0", "false", "no", "off", "n", "f"}
_UNSET = "Unset it (`unset {name}`) and run the same command again."


@dataclass(frozen=True)
class _Variable:
    """A variable that is refused: what it does, the values that do nothing, and the remedy."""

    effect: str
    harmless: frozenset[str] = frozenset(FALSE)
    remedy: str = _UNSET


_USE_PRECISION = "train.precision sets the precision. " + _UNSET
_USE_COMPILE = "train.compile=false trains without compilation. " + _UNSET
ANY_RUN = {
    "ACCELERATE_TORCH_DEVICE": _Variable(
        "chooses the device of every process", frozenset(), f"CUDA_VISIBLE_DEVICES chooses GPUs. {_UNSET}"
    ),
    "ACCELERATE_DOWNCAST_BF16": _Variable("computes in another precision", remedy=_USE_PRECISION),
    "XLA_USE_BF16": _Variable("computes in another precision", remedy=_USE_PRECISION),
    "XLA_DOWNCAST_BF16": _Variable("computes in another precision", remedy=_USE_PRECISION),
    "NVIDIA_TF32_OVERRIDE": _Variable("allows or forbids TF32 everywhere", frozenset(), _USE_PRECISION),
    "HIPBLASLT_ALLOW_TF32": _Variable("allows TF32", remedy=_USE_PRECISION),
    "CUBLAS_EMULATE_SINGLE_PRECISION": _Variable("emulates float32", remedy=_USE_PRECISION),
    "ONEDNN_DEFAULT_FPMATH_MODE": _Variable("computes float32 in less", frozenset({"strict"}), _USE_PRECISION),
    "DNNL_DEFAULT_FPMATH_MODE": _Variable("computes float32 in less", frozenset({"strict"}), _USE_PRECISION),
    "PYTORCH_MPS_FAST_MATH": _Variable("computes with less precision", remedy=_USE_PRECISION),
    "TIMM_FUSED_ATTN": _Variable("selects another attention kernel", frozenset({"1"})),
    "TIMM_USE_NAFLEXVIT": _Variable("builds another network"),
}
"""Variables that no run is started with."""
COMPILED_RUN = {
    name: _Variable(effect, frozenset(harmless), _USE_COMPILE)
    for name, effect, harmless in (
        ("TORCH_COMPILE_DISABLE", "disables torch.compile", FALSE),
        ("TORCHDYNAMO_DISABLE", "disables torch.compile", FALSE),
        ("TORCHDYNAMO_SUPPRESS_ERRORS", "runs without torch.compile what cannot be compiled", ()),
        ("TORCH_COMPILE_OVERRIDE_BACKENDS", "selects another compiler", ()),
        ("TORCH_COMPILE_OVERRIDE_INDUCTOR_CONFIGS", "changes the compiler's settings", ()),
        ("TORCHINDUCTOR_USE_FAST_MATH", "computes with less precision", FALSE),
        ("TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG", "computes with less precision", FALSE),
        ("TORCHINDUCTOR_CPP_USE_DECOMPOSE_TANH", "computes with less precision", FALSE),
        ("TORCHINDUCTOR_EMULATE_PRECISION_CASTS", "rounds at other places", FALSE),
        ("TORCHINDUCTOR_NUMERICS", "rounds at other places", {"default"}),
        ("TORCHINDUCTOR_USE_RAND4X", "draws other random numbers", FALSE),
    )
}
"""Variables that no run with train.compile is started with."""
DISTRIBUTED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "PARALLELISM_CONFIG",
    "ACCELERATE_USE_SAGEMAKER": "AMAZON_SAGEMAKER",
}
"""Variables of the ways to distribute a network that no stage can use, with their names in accelerate."""
UNUSABLE = {*DISTRIBUTED.values(), "XLA", "TPU"}
"""Values of `distributed_type` (and of `compute_environment`) in accelerate's configuration file that no stage can use."""
FLAGS = ("ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY", "FORK_LAUNCHED", "USE_TORCH_XLA")
"""Variables that accelerate reads as true or false, with a traceback for any other word."""

_REPLICAS = (
    "the stages train one replica of the network per process (`accelerate launch --multi_gpu --num_processes N`)"
)


def check_environment(environment: Mapping[str, str], *, compiled: bool = False) -> None:
    """Raise UserError if a variable would change what a recipe computes, or end accelerate; `compiled`: with train.compile."""
    problems = [
        _distributed_problem(name, environment) for name in DISTRIBUTED if _is_on(environment.get(name, ""), FALSE)
    ]
    for name, variable in (ANY_RUN | (COMPILED_RUN if compiled else {})).items():
        if _is_on(value := environment.get(name, ""), variable.harmless):
            remedy = variable.remedy.format(name=name)
            problems.append(
                f"{name} = {value!r}: this environment variable {variable.effect}, behind the recipe. {remedy}"
            )
    for name in FLAGS:
        if name in environment and environment[name].lower() not in TRUE | FALSE:
            problems.append(
                f"{name} = {environment[name]!r}: must be true or false. Set it to one of them, or `unset {name}`."
            )
    if problems:
        raise UserError("\n".join(problems))


def check_launch(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise UserError if a launch would distribute the network in a way that no stage can use.

    `arguments` are those of `accelerate launch`, up to the module or script; accelerate's configuration file counts where it would.
    """
    flags = {"--" + word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    for flag in ("--use_fsdp", "--use_deepspeed", "--use_megatron_lm", "--use_parallelism_config", "--tpu"):
        if flag in flags:
            raise UserError(f"{flag}: no stage can use it: {_REPLICAS}. Leave it out.")
    path = _option("--config_file", arguments) or default_config_file(environment)
    if flags & {"--multi_gpu"} or ("--cpu" in flags and "--config_file" not in flags):
        return  # accelerate then takes no distributed type from the file
    for key, value in _read_config(Path(path)).items():
        if key in ("distributed_type", "compute_environment") and str(value).upper() in UNUSABLE:
            raise UserError(
                f"{path}: {key}: {value}: no stage can use it: {_REPLICAS}. Run `accelerate config` and choose another type, or "
                "name another file with `accelerate launch --config_file`."
            )


def default_config_file(environment: Mapping[str, str]) -> str:
    """Return the path of accelerate's default configuration file; it need not exist."""
    cache = environment.get("XDG_CACHE_HOME", "~/.cache")
    home = environment.get("HF_HOME", os.path.join(cache, "huggingface"))
    return os.path.join(os.path.expanduser(home), "accelerate", "default_config.yaml")


def read_default_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of accelerate's default configuration file, none without a file. Raise UserError if it is damaged."""
    return _read_config(Path(default_config_file(environment)))


def launch_setting(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return a setting of a launch as text, such as num_processes: the option among `arguments`, or that of the configuration file.

    `arguments` are those of `accelerate launch`, up to the module or script. None where neither sets it. Raise UserError for a
    damaged file.
    """
    given = _option(f"--{name}", arguments)
    if given is not None or ("--cpu" in arguments and _option("--config_file", arguments) is None):
        return given  # with --cpu accelerate reads a file only if it is named
    path = _option("--config_file", arguments) or default_config_file(environment)
    value = _read_config(Path(path)).get(name)
    return None if value is None else str(value)


def _read_config(path: Path) -> dict[str, Any]:
    """Return the settings of a configuration file of accelerate; a missing file has none; accelerate reports one that was named."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if os.path.isfile(path) else {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        content, reason = None, str(error).splitlines()[0]
    else:
        reason = "it holds no settings"
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: accelerate cannot read this configuration file ({reason}). Run `accelerate config`, or delete it."
        )
    return content


def _distributed_problem(name: str, environment: Mapping[str, str]) -> str:
    """Return the message about a variable that distributes the network, with the setting it came from where that is known."""
    path, kind = default_config_file(environment), DISTRIBUTED[name]
    try:
        settings = read_default_config(environment)
    except UserError:
        settings = {}
    if str(settings.get("distributed_type")).upper() == kind:
        origin, remedy = f"`distributed_type: {kind}` of {path}", "Run `accelerate config` and choose another type."
    else:
        origin = "an option or the configuration file of `accelerate launch`, or the environment,"
        remedy = f"Leave that out, or `unset {name}`."
    return f"{name} = {environment[name]!r}: {origin} asks for {kind}, which no stage can use: {_REPLICAS}. {remedy}"


def _is_on(value: str, harmless: set[str] | frozenset[str]) -> bool:
    """Return whether a variable is set to a value that does something."""
    return value.strip() != "" and value.strip().lower() not in harmless


def _option(name: str, arguments: Sequence[str]) -> str | None:
    """Return the value of an option, given as `--name value` or `--name=value`."""
    for word, following in zip(arguments, [*arguments[1:], ""]):
        key, equals, value = word.partition("=")
        if key.replace("-", "_") == name.replace("-", "_"):
            return value if equals else following
    return None
