"""Train a network with labels, from scratch or from pre-trained weights: `accelerate launch -m finetune <recipe.yaml> ...`."""

import sys

from common.command import run_stage
from common.pipes import exit_with
from common.training.signals import end_before_run


def main(arguments: list[str]) -> int:
    """Run the stage's command line."""
    from finetune.config import FinetuneConfig
    from finetune.dry_run import describe_plan
    from finetune.train import train

    return run_stage(FinetuneConfig, train, describe_plan, stage="finetune", arguments=arguments)


if __name__ == "__main__":
    end_before_run()
    exit_with(lambda: main(sys.argv[1:]), ignore_closed_pipe=True)
