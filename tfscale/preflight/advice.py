"""What operations do to a TPU, and what to use in their place."""

from __future__ import annotations

import re

# What a TPU leaves to its host: it goes on, and waits for nobody.
_HOST = re.compile(r"Print(V2)?|StringFormat|Write\w*Summary|Assert")

# They compile, with a size that only the data tell: XLA reserves the largest, and may compile anew.
_DYNAMIC = re.compile(
    r"Unique(V2|WithCounts|WithCountsV2)?|Where|ListDiff|DynamicPartition|"
    r"NonMaxSuppression(V2|V3|V4|V5)?|SparseToDense"
)

_CURES = (
    (r"(Eager)?PyFunc(Stateless)?", "Write it with TensorFlow or Keras operations, or do it in the "
     "input pipeline: Python runs on the host only."),
    (r"Ragged\w*", "Pad to one length in the input pipeline: ragged.to_tensor(shape=[None, 128])."),
    (r"Sparse\w*", "Feed dense tensors: tf.sparse.to_dense in the input pipeline."),
    (r"CropAndResize\w*", "Crop and resize in the input pipeline, or use tf.image.resize, which "
     "compiles."),
    (r"ImageProjectiveTransform\w*", "Augment in the input pipeline (`augment=` of input_pipeline, "
     "or Dataset.map): rotations and the like are the host's work."),
    (r"CTC\w*", "Decode and score outside the training step, on the host."),
    (r"\w*(LookupTable|HashTable)\w*", "Look words up in the input pipeline; feed integers."),
    (r"\w*String\w*|AsString|Decode\w*|Encode\w*|Regex\w*|StaticRegex\w*|Substr|UnicodeDecode\w*",
     "A TPU has no strings: do it in the input pipeline, and feed numbers."),
)  # fmt: skip
_OTHER_CURE = (
    "Do it in the input pipeline, which runs on the host, or with operations that XLA has."
)


def is_hosts_work(operation_type: str) -> bool:
    """Tells whether a TPU leaves such an operation to its host.

    Example:
        >>> is_hosts_work("PrintV2")
        True
    """
    return _HOST.fullmatch(operation_type) is not None


def is_dynamic(operation_type: str) -> bool:
    """Tells whether the size of what such an operation returns depends on the data.

    Example:
        >>> is_dynamic("UniqueV2")
        True
    """
    return _DYNAMIC.fullmatch(operation_type) is not None


def cure(operation_types: list[str]) -> str:
    """Returns what to do about operations that cannot be compiled.

    Args:
        operation_types: Those of one line.

    Example:
        >>> cure(["AsString"])
        'A TPU has no strings: do it in the input pipeline, and feed numbers.'
    """
    for pattern, text in _CURES:
        if any(re.fullmatch(pattern, kind) for kind in operation_types):
            return text
    return _OTHER_CURE
