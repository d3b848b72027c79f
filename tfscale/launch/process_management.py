"""Lets the workers of a job find each other in MPI, as under mpiexec.

An MPI library asks the process manager that started it for its rank, and exchanges addresses
through it. Launchers of MPICH answer in a small text protocol, PMI-1, one line a request:

    cmd=get kvsname=job key=hostname[1]  ->  cmd=get_result rc=0 value=node7

So with this server `tfscale launch` starts MPI jobs itself, and keeps what mpiexec does not have:
restarts, prefixes of lines, exit statuses, a worker that is named as the cause. A program that does
not use MPI never connects. Source: MPICH, doc/wiki/design/PMI-1.1 wire protocol.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping
from types import TracebackType

_OTHER_LAUNCHERS = (
    "HYDI_CONTROL_FD",
    "MPI_LOCALNRANKS",
    "MPI_LOCALRANKID",
    "PMI_FD",
    "PMI_RANK",
    "PMI_SIZE",
)
"""What mpiexec gives to a process that it starts: true of this launcher, not of its workers."""
_LONGEST_REQUEST = 4096
_SEND_SECONDS = 5.0
_STOP_SECONDS = 5.0


class ProcessManagementServer:
    """Answers the MPI libraries of the workers of one start of a job, until it is closed.

    Args:
        job: A name that no other start on this host has. MPICH names its shared memory after it.
        num_workers: The number of workers, all on this host. Positive.

    Example:
        >>> with ProcessManagementServer("example", num_workers=2) as server:
        ...     sorted(set(server.environment({}, 1)))
        ['PMI_ID', 'PMI_PORT']
    """

    def __init__(self, job: str, num_workers: int) -> None:
        self._job = job
        self._num_workers = num_workers
        # All workers are on one node, which lets MPICH use shared memory.
        self._values = {"PMI_process_mapping": f"(vector,(0,1,{num_workers}))"}
        self._in_barrier: list[socket.socket] = []
        self._received: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=num_workers)
        self._stop, self._stopped = socket.socketpair()
        for one in (self._listener, self._stopped):
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="tfscale PMI", daemon=True)
        self._thread.start()

    def environment(self, environ: Mapping[str, str], index: int) -> dict[str, str]:
        """Returns the environment of a worker.

        Args:
            environ: The environment it would have without MPI.
            index: The worker's index, which becomes its rank.
        """
        kept = {name: value for name, value in environ.items() if name not in _OTHER_LAUNCHERS}
        port = self._listener.getsockname()[1]
        return {**kept, "PMI_PORT": f"127.0.0.1:{port}", "PMI_ID": str(index)}

    def __enter__(self) -> ProcessManagementServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.close()
        self._thread.join(_STOP_SECONDS)

    def _serve(self) -> None:
        with contextlib.ExitStack() as open_sockets:
            for one in (self._listener, self._stopped, self._selector):
                open_sockets.callback(one.close)
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._stopped:
                        for client in list(self._received):
                            client.close()
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        assert isinstance(key.fileobj, socket.socket)
                        self._read(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(_SEND_SECONDS)
        self._received[client] = b""
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(_LONGEST_REQUEST)
            *lines, rest = (self._received[client] + data).split(b"\n")
            self._received[client] = rest
            for line in lines:
                self._answer(client, line.decode(errors="replace"))
        except OSError:
            data = b""
        if not data or len(rest) > _LONGEST_REQUEST:
            self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._received[client]
        self._in_barrier = [one for one in self._in_barrier if one is not client]
        client.close()

    def _answer(self, client: socket.socket, request: str) -> None:
        words = dict(word.split("=", 1) for word in request.split(" ") if "=" in word)
        match words.get("cmd", ""):
            case "initack":  # of a client that has an address instead of a descriptor
                rank = words.get("pmiid", "-1")
                lines = ("initack rc=0", f"set size={self._num_workers}", f"set rank={rank}")
                self._say(client, *lines, "set debug=0")
            case "init":
                self._say(client, "response_to_init rc=0 pmi_version=1 pmi_subversion=1")
            case "get_maxes":
                self._say(client, "maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024")
            case "get_appnum":
                self._say(client, "appnum rc=0 appnum=0")
            case "get_my_kvsname":
                self._say(client, f"my_kvsname rc=0 kvsname={self._job}")
            case "get_universe_size":
                self._say(client, f"universe_size rc=0 size={self._num_workers}")
            case "put":
                self._values[words.get("key", "")] = words.get("value", "")
                self._say(client, "put_result rc=0 msg=success")
            case "get":
                value = self._values.get(words.get("key", ""))
                found = "rc=-1 msg=unknown_key" if value is None else f"rc=0 value={value}"
                self._say(client, f"get_result {found}")
            case "barrier_in":
                self._in_barrier.append(client)
                if len(self._in_barrier) == self._num_workers:
                    waiting, self._in_barrier = self._in_barrier, []
                    for one in waiting:
                        self._say(one, "barrier_out rc=0")
            case "finalize":
                self._say(client, "finalize_ack rc=0")
            case "abort":
                self._say(client, "abort_ack rc=0")
            case other:
                self._say(client, f"{other}_result rc=-1 msg=not_supported")

    def _say(self, client: socket.socket, *answers: str) -> None:
        with contextlib.suppress(OSError):  # it has ended; the read that follows notices
            client.sendall("".join(f"cmd={answer}\n" for answer in answers).encode())
