"""Files of object stores and web servers, copied to a local folder before they are read."""

from tfscale.data.remote.copying import local_copies, local_files
from tfscale.data.remote.protocols import is_remote
from tfscale.data.remote.sets import local_set

__all__ = ["is_remote", "local_copies", "local_files", "local_set"]
