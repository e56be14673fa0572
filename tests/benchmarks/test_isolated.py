import time

import pytest

from benchmarks.isolated import EnoughError, Setting, StepWatch, call, peak_memory, time_steps


def test_a_loop_is_left_after_its_timed_steps_and_the_warm_up_does_not_count() -> None:
    pauses = [0.2, 0.0, 0.01, 0.01, 0.01, 0.5]
    taken = []

    def loop(setting: Setting, watch: StepWatch) -> None:
        for pause in pauses:
            time.sleep(pause)
            taken.append(pause)
            watch.lap()

    found = time_steps(loop, Setting(warm_up=2, steps=3))
    assert taken == pauses[:5]
    assert 0.01 <= found["seconds_per_step"] < 0.1


def test_a_loop_that_ends_too_early_is_no_measurement() -> None:
    def loop(setting: Setting, watch: StepWatch) -> None:
        watch.lap()

    with pytest.raises(AssertionError, match="before its last timed step"):
        time_steps(loop, Setting(warm_up=1, steps=3))


def test_peak_memory_keeps_what_was_given_back() -> None:
    block = bytearray(b"x") * (100 * 2**20)
    held = peak_memory()
    del block
    assert held > 100
    assert peak_memory() > held - 10  # Linux counts it to within some pages a processor


def test_a_child_that_fails_shows_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREFIX", "env BENCHMARK_TEST=1")
    with pytest.raises(RuntimeError, match="no_such_function"):
        call("benchmarks.isolated:no_such_function", setting=Setting())


def test_workers_and_images_are_shared_out_over_processes() -> None:
    setting = Setting(batch=64, processes=2, workers=2)
    assert (setting.own_batch, setting.own_workers) == (32, 1)
    assert Setting(workers=0).own_workers == 0
    with pytest.raises(EnoughError):
        StepWatch(Setting(warm_up=1, steps=0)).lap()
