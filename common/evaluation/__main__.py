"""Command line of the evaluations: `accelerate launch -m common.evaluation linear|knn|probe|... <recipe.yaml> key=value ...`."""

import argparse
import sys

from common.command import run_stage
from common.pipes import exit_with
from common.training.signals import end_before_run


def main(arguments: list[str]) -> int:
    """Run the evaluation that the first argument names; return the exit code."""
    from common.evaluation.config import CONFIGS

    parser = argparse.ArgumentParser(
        prog="accelerate launch -m common.evaluation",
        description="Evaluate a frozen backbone. `<evaluation> --help` lists the keys of its recipe.",
        epilog="\n".join(f"  {name:13} {(cls.__doc__ or '').splitlines()[0]}" for name, cls in CONFIGS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("evaluation", choices=tuple(CONFIGS), help="which evaluation; recipe and key=value follow")
    name = parser.parse_args(arguments[:1]).evaluation
    runs = {
        "linear": _linear,
        "knn": _knn,
        "probe": _probe,
        "tokens": _tokens,
        "complexity": _complexity,
        "token_labels": _token_labels,
    }
    return runs[name](arguments[1:])


def _linear(arguments: list[str]) -> int:
    """Run a linear evaluation."""
    from common.evaluation.config import LinearConfig
    from common.evaluation.dry_run import describe_linear
    from common.evaluation.linear_run import evaluate

    return run_stage(LinearConfig, evaluate, describe_linear, stage="common.evaluation linear", arguments=arguments)


def _knn(arguments: list[str]) -> int:
    """Run a k-NN evaluation."""
    from common.evaluation.config import KnnEvaluationConfig
    from common.evaluation.dry_run import describe_knn
    from common.evaluation.knn_run import evaluate

    return run_stage(KnnEvaluationConfig, evaluate, describe_knn, stage="common.evaluation knn", arguments=arguments)


def _probe(arguments: list[str]) -> int:
    """Run k-NN and logistic regression on features or pixels."""
    from common.evaluation.config import ProbeConfig
    from common.evaluation.dry_run import describe_probe
    from common.evaluation.probe_run import evaluate

    return run_stage(ProbeConfig, evaluate, describe_probe, stage="common.evaluation probe", arguments=arguments)


def _tokens(arguments: list[str]) -> int:
    """Run a token similarity evaluation."""
    from common.evaluation.config import TokensConfig
    from common.evaluation.dry_run import describe_tokens
    from common.evaluation.token_similarity_run import evaluate

    return run_stage(TokensConfig, evaluate, describe_tokens, stage="common.evaluation tokens", arguments=arguments)


def _complexity(arguments: list[str]) -> int:
    """Count parameters, MACs and activations."""
    from common.evaluation.complexity_run import describe, evaluate
    from common.evaluation.config import ComplexityConfig

    return run_stage(ComplexityConfig, evaluate, describe, stage="common.evaluation complexity", arguments=arguments)


def _token_labels(arguments: list[str]) -> int:
    """Write token labels."""
    from common.evaluation.token_labels.command import main as write_token_labels

    return write_token_labels(arguments)


if __name__ == "__main__":
    end_before_run()
    exit_with(lambda: main(sys.argv[1:]), ignore_closed_pipe=True)
