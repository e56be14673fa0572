"""A Slurm of one process per job array, for tests: sbatch, squeue, scancel and scontrol as far as a study uses them.

`install` puts the programs on PATH. Their state is one JSON file, which every program changes under a lock. sbatch leaves a
process behind that starts the tasks of its array, at most `NODES` of all arrays at a time, and waits for them.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol")
NODES = 4
POLL_SECONDS = 0.05


class FakeSlurm:
    """The state of a fake Slurm in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "state.json"

    @contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        """Yield the state under a lock, and write it afterwards: the tasks by id, and the processes of the arrays."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = self.file.read_text() if self.file.exists() else ""
            state = json.loads(text) if text else {"next": 1, "tasks": {}, "arrays": []}
            yield state
            changed = json.dumps(state)
            if changed != text:
                self.file.with_suffix(".new").write_text(changed)
                self.file.with_suffix(".new").replace(self.file)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the tasks by id."""
        with self.state() as state:
            return dict(state["tasks"])

    def limit(self, *, submitted: int | None = None, array_size: int = 1001) -> None:
        """Set the limit on a user's submitted jobs (MaxSubmitJobs), None for none, and MaxArraySize."""
        with self.state() as state:
            state["limits"] = {"submitted": submitted, "array_size": array_size}

    def warn(self, task: str) -> None:
        """Send a task's script the signal before the time limit."""
        os.kill(self.tasks()[task]["pid"], signal.SIGUSR1)

    def lose(self, task: str, state: str = "NODE_FAIL", *, again: bool = False) -> None:
        """Kill all processes of a task, as a node that is lost; it is requeued (`again`), or ends in a state."""
        with self.state() as content:
            entry = content["tasks"][task]
            entry |= {"again": again, "ends_as": None if again else state}
            _kill_tree(entry["pid"])

    def forget(self) -> None:
        """Forget the tasks that have ended, as Slurm does after some minutes."""
        with self.state() as state:
            state["tasks"] = {
                name: task for name, task in state["tasks"].items() if task["state"] in ("PENDING", "RUNNING")
            }

    def stop(self) -> None:
        """Kill everything."""
        with self.state() as state:
            for pid in state["arrays"]:
                _kill_tree(pid)
            for task in state["tasks"].values():
                if task["state"] == "RUNNING":
                    _kill_tree(task["pid"])


def install(folder: Path) -> FakeSlurm:
    """Write the programs into `folder`, for PATH; return their state."""
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" "{folder}" {name} "$@"\n')
        program.chmod(0o755)
    return FakeSlurm(folder)


def _kill_tree(pid: int) -> None:
    """Kill a process and its descendants, which may lead groups of their own, as at once: none acts on the end of another."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(OSError):
        for child in children.read_text().split():
            _kill_tree(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def sbatch(slurm: FakeSlurm, options: dict[str, str], words: list[str]) -> int:
    """Add a job array; leave a process behind that runs it."""
    indices = _indices(options["array"])
    with slurm.state() as state:
        if message := _refusal(state, indices):
            print(message, file=sys.stderr)
            return 1
        array = str(state["next"])
        state["next"] += 1
        for index in indices:
            state["tasks"][f"{array}_{index}"] = {
                "array": array, "index": index, "state": "PENDING", "name": options["job-name"], "pid": 0, "starts": 0,
                "again": False, "ends_as": None, "options": options, "script": words[-1],
            }  # fmt: skip
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            with slurm.state() as state:
                state["arrays"].append(os.getpid())
            _run_array(slurm, array)
        except BaseException:
            (slurm.folder / f"array-{array}.txt").write_text(traceback.format_exc())
        os._exit(1)
    print(array, flush=True)  # last: who submits may be killed by now, and Slurm has the jobs all the same
    return 0


def _indices(text: str) -> list[int]:
    """Return the indices of an array, written as 0-3,7."""
    ends = [part.partition("-") for part in text.split(",")]
    return [index for first, _, last in ends for index in range(int(first), int(last or first) + 1)]


def _refusal(state: dict[str, Any], indices: list[int]) -> str:
    """Return why no array with these indices is taken, in the words of a real sbatch; an empty string if it is."""
    limits = state.get("limits", {"submitted": None, "array_size": 1001})
    live = sum(task["state"] in ("PENDING", "RUNNING", "COMPLETING") for task in state["tasks"].values())
    if indices[-1] >= limits["array_size"]:
        return "sbatch: error: Batch job submission failed: Invalid job array specification"
    if limits["submitted"] is not None and live + len(indices) > limits["submitted"]:
        policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        return f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: {policy}"
    return ""


def _run_array(slurm: FakeSlurm, array: str) -> None:
    """Run the tasks of an array until all have ended."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    while True:
        with slurm.state() as state:
            own = {name: task for name, task in state["tasks"].items() if task["array"] == array}
            for name, process in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[name]
                    _end(own[name], code)
            busy = sum(task["state"] in ("RUNNING", "COMPLETING") for task in state["tasks"].values())
            for name, task in own.items():
                if task["state"] != "PENDING" or busy >= NODES:
                    continue
                ready = _is_ready(state["tasks"], task)
                if ready is None:
                    task["state"] = "CANCELLED"
                elif ready:
                    running[name] = _start(name, task)
                    busy += 1
            has_ended = not any(task["state"] in ("PENDING", "RUNNING", "COMPLETING") for task in own.values())
        if has_ended and not running:
            os._exit(0)
        time.sleep(POLL_SECONDS)


def _is_ready(tasks: dict[str, dict[str, Any]], task: dict[str, Any]) -> bool | None:
    """Return whether the dependency of a task is satisfied; None if it never is."""
    kind, _, name = task["options"].get("dependency", "").partition(":")
    name = f"{name}_{task['index']}" if kind == "aftercorr" else name
    if not name or name not in tasks or tasks[name]["state"] == "COMPLETED":
        return True
    return False if tasks[name]["state"] in ("PENDING", "RUNNING", "COMPLETING") else None


def _job_id(task: dict[str, Any]) -> str:
    """Return the id of a task that is no array's and no index, as Slurm gives it: the last task has that of its array."""
    last = _indices(task["options"]["array"])[-1]
    return str(task["array"]) if task["index"] == last else f"{task['array']}{task['index']:06}"


def _tasks_of(tasks: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the task with an id, or all tasks of an array."""
    return [tasks[name]] if name in tasks else [task for task in tasks.values() if task["array"] == name]


def _start(name: str, task: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Start the script of a task."""
    options = task["options"]
    environment = {
        **os.environ, "SLURM_JOB_ID": _job_id(task), "SLURM_ARRAY_JOB_ID": task["array"], "SLURM_ARRAY_TASK_ID": str(task["index"]),
        "SLURM_RESTART_COUNT": str(task["starts"]), "SLURM_JOB_NODELIST": "fake", "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
    }  # fmt: skip
    with Path(options["output"].replace("%a", str(task["index"]))).open("ab") as output:
        process = subprocess.Popen(
            ["/bin/bash", task["script"]],
            cwd=options["chdir"], stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
    task |= {"state": "RUNNING", "pid": process.pid, "starts": task["starts"] + 1}
    return process


def _end(task: dict[str, Any], code: int) -> None:
    """Set the state of a task whose script has ended."""
    if task["again"]:
        task |= {"again": False, "state": "PENDING"}
    else:
        task["state"] = task["ends_as"] or ("COMPLETED" if code == 0 else "FAILED")


def squeue(slurm: FakeSlurm, options: dict[str, str], words: list[str]) -> int:
    """List tasks."""
    tasks = slurm.tasks()
    if "jobs" in options:
        print("\n".join(task["state"] for task in _tasks_of(tasks, options["jobs"])))
        return 0
    for task in tasks.values():
        node = "fake" if task["state"] == "RUNNING" else ""
        print("|".join([task["array"], str(task["index"]), task["state"], "None", node, "1:00", task["name"]]))
    return 0


def scancel(slurm: FakeSlurm, options: dict[str, str], words: list[str]) -> int:
    """Signal or cancel tasks."""
    with slurm.state() as state:
        for name in words:
            task = state["tasks"].get(name)
            if (
                task is None
                or task["state"] not in ("PENDING", "RUNNING")
                or options.get("state", task["state"]) != task["state"]
            ):
                continue
            if "signal" in options:
                os.kill(task["pid"], getattr(signal, f"SIG{options['signal']}"))
            elif task["state"] == "PENDING":
                task["state"] = "CANCELLED"
            else:
                task |= {"state": "COMPLETING", "ends_as": "CANCELLED"}
                os.killpg(task["pid"], signal.SIGTERM)
    return 0


def scontrol(slurm: FakeSlurm, options: dict[str, str], words: list[str]) -> int:
    """Requeue a task."""
    with slurm.state() as state:
        running = [task for task in _tasks_of(state["tasks"], words[-1]) if task["state"] == "RUNNING"]
        for task in running:
            task |= {"state": "COMPLETING", "again": True}
    for task in running:
        os.killpg(task["pid"], signal.SIGTERM)  # this process may be one of them
    return 0


def main(arguments: list[str]) -> int:
    """Run the program that the second argument names."""
    folder, name, *rest = arguments
    parts = [word.removeprefix("--").partition("=") for word in rest if word.startswith("--")]
    options = {key: value for key, _, value in parts}
    return globals()[name](FakeSlurm(Path(folder)), options, [word for word in rest if not word.startswith("--")])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
