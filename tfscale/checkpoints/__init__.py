"""The checkpoint format: a directory a step, a manifest, and tensors in checked slices.

    directory = CheckpointDirectory("runs/a")
    directory.save(content, keep=3)
    content = directory.newest()

Documented in docs/howto/checkpoints.md. Reading and writing need NumPy alone; TensorFlow is loaded
for paths of remote file systems (`gs://`, `ram://`) only. Fit is checkpointed and resumed by
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
