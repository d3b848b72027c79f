"""The engine `local`: the workers are processes of this host, in the foreground by default."""

from __future__ import annotations

from tfscale.launch.engines.in_background import InBackground


class Local(InBackground):
    """Runs the workers on this host, with `tfscale launch` in the background."""

    name = "local"
