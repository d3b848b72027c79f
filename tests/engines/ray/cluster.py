"""Program: a Ray cluster of two nodes on this machine, until standard input ends.

    .venv-engines/bin/python -m tests.engines.ray.cluster FOLDER

Prints the address of the dashboard, which takes jobs. The line "lose" ends the second node as if
its power was cut, and adds another one.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from tfscale.launch.ports import reserve_port

MEMORY = 100 << 20


def free_port() -> int:
    with reserve_port() as port:
        return port.number


def added(cluster: Cluster) -> object:
    port = free_port()
    return cluster.add_node(
        num_cpus=1, object_store_memory=MEMORY, dashboard_agent_listen_port=port
    )


def main() -> None:
    # Not in /tmp/ray, where another cluster may be. Paths of sockets have at most 107 characters.
    folder = Path(sys.argv[1]) / "ray"
    folder.mkdir(parents=True)
    os.environ["RAY_TMPDIR"] = sys.argv[1]
    head = {
        "num_cpus": 1,
        "object_store_memory": MEMORY,
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": int(sys.argv[2]),
        "dashboard_agent_listen_port": free_port(),
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = added(cluster)
    print(json.dumps({"address": f"http://{cluster.webui_url}"}), flush=True)
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(node, allow_graceful=False)
            node = added(cluster)
            print("lost one, added one", flush=True)
    cluster.shutdown()
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
