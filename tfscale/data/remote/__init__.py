"""Files of object stores and web servers, copied to a local folder before they are read."""

from tfscale.data.remote.copying import local_copies, local_files

__all__ = ["local_copies", "local_files"]
