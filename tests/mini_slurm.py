"""A real Slurm of two nodes on this machine, of Debian's packages: controller and nodes are processes of the test.

No munge, no database, loopback only. It needs root, as slurmd does, and `apt-get install slurmctld slurmd slurm-client`.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = ("n1", "n2")

CONFIGURATION = """
ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=20
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def reason_to_skip() -> str:
    """Return why no real Slurm can be started here; an empty string if it can."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: apt-get install slurmctld slurmd slurm-client)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class MiniSlurm:
    """Two nodes in `folder`, each with one core."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "slurm.conf"
        for name in ("state", *(f"spool_{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        host = socket.gethostname().partition(".")[0]
        self.file.write_text(CONFIGURATION.format(host=host, folder=folder, ports=_free_ports(3)))
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the controller and the nodes; wait until they are idle."""
        os.environ["SLURM_CONF"] = str(self.file)
        self._daemons["slurmctld"] = self._start("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.call("sinfo", "-h", "-o", "%D %t") == "2 idle", "the nodes are not idle", 120)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._daemons[node] = self._start("slurmd", "-D", "-N", node)

    def lose_node(self, node: str) -> None:
        """Kill a node's slurmd and the processes of its jobs, at once."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        own = set(self._processes_on(node))
        parents = {parent for pid in own if (parent := _parent(pid)) is not None and _name(parent) == "slurmstepd"}
        for pid in (*parents, *own):  # the steps first: they would report that their processes have ended
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes_on(self, node: str) -> Iterator[int]:
        """Yield the processes of the jobs on a node."""
        wanted = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.file}".encode()}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                        yield int(entry.name)

    def stop(self) -> None:
        """Cancel all jobs and end the daemons."""
        with suppress(subprocess.TimeoutExpired):
            self.call("scancel", "--user=root")
            wait_for(lambda: not self.call("squeue", "-h"), "jobs stay", 40)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()

    def call(self, *command: str) -> str:
        """Return the output of one of Slurm's programs."""
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        words = [command[0], "-f", str(self.file), *command[1:]]
        with (self.folder / f"{command[0]}.out").open("ab") as output:
            return subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)


@contextmanager
def mini_slurm(folder: Path) -> Iterator[MiniSlurm]:
    """Yield a running Slurm of two nodes."""
    slurm = MiniSlurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        os.environ.pop("SLURM_CONF", None)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _parent(pid: int) -> int | None:
    """Return the parent of a process; None if the process has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _name(pid: int) -> str:
    """Return the name of a process's program."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
