"""A real Slurm on this machine: a controller here, and nodes in namespaces of their own.

    with SlurmCluster(folder, ("n2", "n10")) as slurm:
        slurm.run("sbatch", "job.sbatch")

A node is a network, a process, a mount and a host name namespace with a `slurmd` in it. To end its
first process is what a power failure is: no process of the node is left, and nothing says goodbye.
Needs root, and the Debian packages that install.sh installs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from tests.waiting import until
from tfscale.launch.ports import reserve_port

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "munged", "ip", "unshare", "bash")
_PREFIX = "tfs"
_UP_SECONDS = 300.0
_DOWN_SECONDS = 120.0

_CONF = """\
ClusterName=tfscale
SlurmctldHost={controller}({network}.254)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort=6818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
ReturnToService=2
MpiDefault=none
{reserved}
KillWait=5
SlurmdTimeout=10
MessageTimeout=5
MinJobAge=10
DefMemPerCPU=500
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=40
PartitionName=urgent Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str:
    """Returns why no Slurm can be started here, or an empty text."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: run tests/engines/slurm/install.sh"
    trial = ("unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc", "true")
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        return "the kernel gives no namespaces"
    return ""


class SlurmCluster:
    """A controller and its nodes, until the end of the `with` block.

    Args:
        folder: For configuration, state and logs of the daemons. Exists.
        nodes: Names of the nodes.
        cpus: CPUs that each node claims to have.
        ports: Ports that Slurm reserves for steps, such as "12000-12099"; empty: none.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[str],
        *,
        cpus: int = 4,
        ports: str = "12000-12199",
    ) -> None:
        self.folder = folder
        self.nodes = tuple(nodes)
        self._cpus = cpus
        self._ports = ports
        self._bridge = f"{_PREFIX}{os.getpid()}"
        self._network = ""
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = contextlib.ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which Slurm's programs find this cluster, and no other job's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        return {**own, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def address(self, node: str) -> str:
        """Returns the address of a node."""
        return f"{self._network}.{1 + self.nodes.index(node)}"

    def run(self, *command: str, seconds: float = 60.0) -> str:
        """Runs a program of Slurm, which must succeed, and returns what it printed."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def complaint(self, *command: str) -> str:
        """Runs a program of Slurm, and returns what it printed as an error."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stderr

    def end_all_jobs(self) -> None:
        """Cancels what runs and waits, and waits until nothing is left."""
        subprocess.run(
            ("scancel", "--user=root"), env=self.environment, capture_output=True, check=False
        )
        _await("the end of all jobs", lambda: not self.run("squeue", "--noheader").strip())

    def lose(self, node: str) -> None:
        """Ends every process of a node at once, and cuts its cable."""
        daemon = self._daemons.pop(node)
        _ip("link", "set", self._cable(node), "down")
        daemon.send_signal(
            signal.SIGKILL
        )  # unshare --kill-child ends the namespace's first process
        daemon.wait(_DOWN_SECONDS)

    def give_back(self, node: str) -> None:
        """Starts a lost node again, and waits until Slurm uses it."""
        _ip("link", "set", self._cable(node), "up")
        self._start_node(node)
        self._await_nodes((node,))

    def __enter__(self) -> SlurmCluster:
        with self._stack:
            _remove_leftovers()
            self._make_network()
            self._start_daemons()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _make_network(self) -> None:
        self._network = _free_network()
        _ip("link", "add", self._bridge, "type", "bridge")
        self._stack.callback(_ip, "link", "del", self._bridge)
        _ip("addr", "add", f"{self._network}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for node in self.nodes:
            space, cable = self._space(node), self._cable(node)
            _ip("netns", "add", space)
            self._stack.callback(_ip, "netns", "del", space)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            # By itself it would go some time after its namespace; the next cluster has its name.
            self._stack.callback(_ip, "link", "del", cable)
            _ip("link", "set", cable, "master", self._bridge, "up")
            inside = ("netns", "exec", space, "ip")
            _ip(*inside, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "link", "set", "eth0", "up")

    def _start_daemons(self) -> None:
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.folder.chmod(0o755)
        hosts = [f"{self.address(node)} {node}" for node in self.nodes]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        controller = socket.gethostname()
        lines = [
            f"NodeName={node} NodeAddr={self.address(node)} CPUs={self._cpus} RealMemory=4000"
            for node in self.nodes
        ]
        with reserve_port() as reserved:
            port = reserved.number  # slurmctld takes it
        conf = _CONF.format(
            controller=controller,
            network=self._network,
            folder=self.folder,
            port=port,
            reserved=f"MpiParams=ports={self._ports}" if self._ports else "",
            nodes="\n".join(lines),
        )
        (self.folder / "slurm.conf").write_text(conf)
        munged = [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")]
        self._start(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={key}", *munged),
            f"--socket={self.folder}/munge.socket",
        )
        _await(f"{self.folder}/munge.socket", (self.folder / "munge.socket").exists)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in self.nodes:
            self._start_node(node)
        self._await_nodes(self.nodes)

    def _start_node(self, node: str) -> None:
        script = (
            f"hostname {node} && mount --bind {self.folder}/hosts /etc/hosts && "
            # As in the first process of a machine: bash waits for whatever is orphaned.
            "{ slurmd -D & wait $!; }"
        )
        spaces = ("--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        network = f"--net=/run/netns/{self._space(node)}"
        # Not `ip netns exec`, which hides the control groups that slurmd looks for.
        self._start(node, "nsenter", network, "unshare", *spaces, "bash", "-c", script)

    def _start(self, name: str, *command: str) -> None:
        output = self._stack.enter_context((self.folder / f"{name}.output").open("ab"))
        # Ends with the process of the tests, also if that is killed.
        daemon = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *command),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self._daemons[name] = daemon
        self._stack.callback(_end, daemon)

    def _await_nodes(self, nodes: Sequence[str]) -> None:
        def are_up() -> bool:
            answer = subprocess.run(
                ("sinfo", "--noheader", "--Node", "--format=%T", "--nodes", ",".join(nodes)),
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            states = set(answer.stdout.split())
            return bool(states) and states <= {"idle", "mixed", "allocated", "completing"}

        _await(f"the nodes {', '.join(nodes)}; see the logs in {self.folder}", are_up)

    def _space(self, node: str) -> str:
        return f"{self._bridge}-{node}"

    def _cable(self, node: str) -> str:
        return f"{self._bridge}{node}"[:15]


def _end(daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        daemon.kill()
    daemon.wait(_DOWN_SECONDS)


def _await(what: str, is_there: Callable[[], bool]) -> None:
    until(is_there, _UP_SECONDS, lambda: f"not there within {_UP_SECONDS:g} s: {what}", every=0.1)


def _ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _free_network() -> str:
    taken = _ip("-4", "addr")
    return next(net for k in range(64, 255) if f" {(net := f'10.88.{k}')}." not in taken)


def _remove_leftovers() -> None:
    """Removes networks of test runs that were killed."""
    for name in [*_names("netns", "list"), *_names("-o", "link", "show", "type", "bridge")]:
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _ip("netns" if "-" in name else "link", "del", name)


def _names(*listing: str) -> Iterator[str]:
    for line in _ip(*listing).splitlines():
        words = line.replace(":", " ").split()
        yield words[0] if listing[0] == "netns" else words[1]
