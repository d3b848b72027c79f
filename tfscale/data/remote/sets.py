"""A remote folder whose manifest lists its files, as a local folder."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from tfscale.data.remote.copying import default_folder, local_copies


def local_set(address: str, manifest: str, files_of: Callable[[str], list[str]]) -> str:
    """Returns a local folder with links to copies of the files of a remote folder.

    Args:
        address: The remote folder.
        manifest: Name of the file that lists the others.
        files_of: Returns their names, from the local folder of the manifest.

    Raises:
        OSError: If a file cannot be copied.
    """
    base = address.rstrip("/")
    (listed,) = local_copies(f"{base}/{manifest}")
    names = files_of(str(Path(listed).parent))
    copies = [listed, *local_copies([f"{base}/{name}" for name in names])]
    key = hashlib.sha256("\n".join(copies).encode()).hexdigest()[:32]
    folder = default_folder() / "sets" / key
    folder.mkdir(parents=True, exist_ok=True)
    for name, copy in zip([manifest, *names], copies, strict=True):
        link = folder / name
        if not link.is_symlink():
            # Several processes may do this at a time.
            new = folder / f".{secrets.token_hex(8)}.partial"
            new.symlink_to(copy)
            os.replace(new, link)  # noqa: PTH105
    return str(folder)
