"""Program: the smallest model of the language recipe, with 2:4 zeros and with weights of 4 bits.

    python -m tests.unit.tfscale.shrink.language_shrunk STEPS SEED

Trains on Python's standard library, a token a byte, for so many steps, and then for half as many
more, once as it is and once with 2:4 pruning. Prints JSON: bits per byte of held-out text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import keras
import tensorflow as tf

import strategies
import tfscale
from recipes.language.model import compile_for_training, language_model
from recipes.language.rounds import Rounds
from recipes.language.rows import packed_rows, shifted
from recipes.language.sizes import SIZES
from recipes.language.text import read_text
from recipes.language.vocabulary import ByteVocabulary
from tfscale.shrink import CubicSparsity, Prune, quantize

CONTEXT, BATCH, RATE, CALIBRATION_ROWS = 64, 16, 0.003, 64
VOCABULARY = ByteVocabulary()


def compiled(model: keras.Model, steps: int, rate: float) -> keras.Model:
    """Compiles a model for so many steps, with a rate that ends at zero."""
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, steps), global_clipnorm=1.0
    )
    compile_for_training(model, optimizer, [len(piece) for piece in VOCABULARY.pieces])
    return model


def rows(documents: list[bytes], seed: int) -> Any:
    return packed_rows(documents, VOCABULARY, context=CONTEXT, seed=seed)


def main() -> None:
    steps, seed = int(sys.argv[1]), int(sys.argv[2])
    more = steps // 2
    strategy = strategies.one_device_strategy("CPU:0")
    text = read_text(None, held_out=0.05, validation_bytes=100_000)
    source = rows(text.train, seed)
    train = tfscale.data.input_pipeline(
        source,
        strategy,
        global_batch_size=BATCH,
        seed=seed,
        drop_remainder=True,
        preprocess=shifted,
    )
    validation = tfscale.data.input_pipeline(
        rows(text.validation, seed),
        strategy,
        global_batch_size=BATCH,
        shuffle=False,
        preprocess=shifted,
    )
    inputs, _, _ = shifted(source.take(tf.range(CALIBRATION_ROWS, dtype=tf.int64)))
    calibration = {name: each.numpy() for name, each in inputs.items()}

    def fitted(model: keras.Model, num: int, *callbacks: Any) -> None:
        model.fit(Rounds(train, num), epochs=1, verbose=0, callbacks=[*callbacks])

    def bits(model: keras.Model) -> float:
        shown = model.evaluate(validation, verbose=0, return_dict=True)
        return round(float(shown["bits_per_byte"]), 4)

    def bits_of_int4(model: keras.Model) -> float:
        with strategy.scope():
            smaller = quantize(model, "int4", calibration=calibration).model
            return bits(compiled(smaller, 1, RATE))

    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = language_model(SIZES["nano"], num_tokens=len(VOCABULARY.pieces), seed=seed)
        compiled(model, steps, RATE)
    fitted(model, steps)
    weights = model.get_weights()
    begin = more // 10
    schedule = CubicSparsity(0.5, begin=begin, end=begin + max(1, more // 40) * 20, every=20)
    prune = Prune(schedule, pattern="2:4")
    found: dict[str, Any] = {"trained": bits(model)}
    for name, callbacks in (("trained on", []), ("trained on, 2:4", [prune])):
        model.set_weights(weights)
        with strategy.scope():
            compiled(model, more, RATE / 3)
        fitted(model, more, *callbacks)
        found[name] = bits(model)
        found[f"{name}, int4"] = bits_of_int4(model)
        print(json.dumps(found), flush=True)
    found["sparsity"] = sorted(set(prune.sparsity().values()))
    found["parameters"] = model.count_params()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
