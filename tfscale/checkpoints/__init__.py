"""The checkpoint format: one directory per checkpoint, with a manifest and checksummed tensors.

    directory = CheckpointDirectory("runs/a")
    directory.save(content, keep=3)
    content = directory.newest()

The format: docs/concepts/checkpoint_format.md. Reading and writing need only NumPy; TensorFlow is
loaded for paths of remote file systems (`gs://`, `ram://`) only. Fit is checkpointed and resumed by
`tfscale.callbacks.Checkpoint`.
"""

from tfscale.checkpoints import schema
from tfscale.checkpoints.directory import CheckpointDirectory, Content
from tfscale.checkpoints.manifest import Manifest, Position, Slice, StoredTensor

__all__ = [
    "CheckpointDirectory",
    "Content",
    "Manifest",
    "Position",
    "Slice",
    "StoredTensor",
    "schema",
]
