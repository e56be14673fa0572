import time

import pytest

from benchmarks.isolated import Setting, StepTimer, TimingDone, call, peak_memory, time_steps


def test_a_loop_stops_after_its_timed_steps_and_the_warm_up_is_not_timed() -> None:
    durations = [0.2, 0.0, 0.01, 0.01, 0.01, 0.5]
    done = []

    def loop(setting: Setting, timer: StepTimer) -> None:
        for duration in durations:
            time.sleep(duration)
            done.append(duration)
            timer.lap()

    result = time_steps(loop, Setting(warmup_steps=2, steps=3))
    assert done == durations[:5]
    assert 0.01 <= result["seconds_per_step"] < 0.1


def test_a_loop_that_ends_before_its_last_timed_step_is_an_error() -> None:
    def loop(setting: Setting, timer: StepTimer) -> None:
        timer.lap()

    with pytest.raises(AssertionError, match="before its last timed step"):
        time_steps(loop, Setting(warmup_steps=1, steps=3))


def test_peak_memory_includes_freed_memory() -> None:
    block = bytearray(b"x") * (100 * 2**20)
    peak = peak_memory()
    del block
    assert peak > 100
    assert peak_memory() > peak - 10  # Linux counts pages approximately, per CPU


def test_the_error_of_a_child_process_contains_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREFIX", "env BENCHMARK_TEST=1")
    with pytest.raises(RuntimeError, match="no_such_function"):
        call("benchmarks.isolated:no_such_function", setting=Setting())


def test_workers_and_images_are_divided_among_processes() -> None:
    setting = Setting(batch=64, processes=2, workers=2)
    assert (setting.local_batch, setting.local_workers) == (32, 1)
    assert Setting(workers=0).local_workers == 0
    with pytest.raises(TimingDone):
        StepTimer(Setting(warmup_steps=1, steps=0)).lap()


def test_waiting_for_batches_is_counted_in_the_timed_steps_only() -> None:
    def slow_batches():
        for _ in range(6):
            time.sleep(0.02)
            yield None

    def loop(setting: Setting, timer: StepTimer) -> None:
        time.sleep(0.3)  # before the first step
        for _ in timer.watch(slow_batches()):
            time.sleep(0.02)
            timer.lap()

    result = time_steps(loop, Setting(warmup_steps=1, steps=3))
    assert 0.3 < result["waiting_share"] < 0.7
    assert 0.02 <= result["first_step_seconds"] < 0.3
