"""Programs that train, driven by flags: `python -m recipes.image_classification --help`."""

from strategies import require_importable_wheels

require_importable_wheels()  # every recipe imports Keras, and so TensorFlow
