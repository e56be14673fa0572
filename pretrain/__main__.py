"""Pre-train a network on unlabeled images: `accelerate launch -m pretrain <recipe.yaml> key=value ...`."""

import sys

from common.command import run_stage
from common.pipes import exit_with
from common.training.signals import end_before_run


def main(arguments: list[str]) -> int:
    """Run the stage's command line."""
    from pretrain.config import PretrainConfig
    from pretrain.dry_run import describe_plan
    from pretrain.train import train

    return run_stage(PretrainConfig, train, describe_plan, stage="pretrain", arguments=arguments)


if __name__ == "__main__":
    end_before_run()
    exit_with(lambda: main(sys.argv[1:]), ignore_closed_pipe=True)
