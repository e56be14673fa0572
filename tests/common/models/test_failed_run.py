"""Weights of a collapsed run are loaded with a warning that has the evidence of the run."""

import json
import logging
from pathlib import Path

import pytest
from safetensors.torch import save_file

from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (json.dumps({"status": "collapsed_uniform", "reason": "KL 1e-5"}), "ended as collapsed_uniform (KL 1e-5)"),
        (json.dumps({"status": "diverged", "reason": "the loss rebounded"}), "ended as diverged (the loss rebounded)"),
        (json.dumps({"status": "finished", "reason": "KL 0.4"}), None),
        ("[]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_status_of_the_run_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, result: str | None, words: str | None
) -> None:
    model = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=0)
    (tmp_path / "export").mkdir()
    save_file(model.state_dict(), tmp_path / "export" / "model.safetensors")
    if result is not None:
        (tmp_path / "result.json").write_text(result)
    with caplog.at_level(logging.WARNING):
        load_init(model, str(tmp_path))
    told = [text for text in caplog.messages if "ended as" in text]
    assert len(told) == (words is not None)
    assert words is None or words in told[0]
