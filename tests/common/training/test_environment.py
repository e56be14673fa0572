"""The record of a run's environment: what tells machines apart."""

from pathlib import Path

import torch

from common.training import environment as module

CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: {model}
model name\t: AMD EPYC
stepping\t: 1

processor\t: 1
cpu family\t: 25
model\t\t: 99
model name\t: another
"""


def test_cpus_of_one_name_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    described = []
    for model in (1, 17):
        path = tmp_path / f"cpuinfo{model}"
        path.write_text(CPUINFO.format(model=model))
        content = module._cpuinfo(path)
        monkeypatch.setattr(module, "_cpuinfo", lambda content=content: content)
        described.append((module.processor(), module.processor_model()))
        monkeypatch.undo()
    assert described == [
        ("AMD EPYC", "family 25, model 1, stepping 1"),
        ("AMD EPYC", "family 25, model 17, stepping 1"),
    ]


def test_a_system_without_cpuinfo_has_a_name_and_no_model(tmp_path: Path, monkeypatch) -> None:
    content = module._cpuinfo(tmp_path / "absent")
    monkeypatch.setattr(module, "_cpuinfo", lambda: content)
    monkeypatch.setattr(module.platform, "processor", lambda: "arm")
    assert (module.processor(), module.processor_model()) == ("arm", "")


def test_the_record_names_model_and_instructions() -> None:
    record = module.environment(torch.device("cpu"))
    assert record["processor"] == module.processor()
    assert record["processor_model"] == module.processor_model()
    assert record["instructions"] == torch.backends.cpu.get_cpu_capability()
