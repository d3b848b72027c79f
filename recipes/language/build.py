"""Builds the text, the inputs and the model of the language recipe from its flags."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import common_flags
from recipes.language import byte_pairs
from recipes.language.block import DecoderBlock
from recipes.language.model import compile_for_training, language_model
from recipes.language.rows import packed_rows, shifted
from recipes.language.sizes import SIZES, ModelSize
from recipes.language.text import read_text
from recipes.language.vocabulary import ByteVocabulary, Vocabulary
from tfscale.data import Pipeline, RandomAccessSource

FLAGS = flags.FLAGS
VOCABULARY_FILE = "vocabulary.json"


@dataclass(frozen=True)
class Corpus:
    """The text as rows of tokens.

    Attributes:
        name: What the text is, for reports.
        vocabulary: What a token is.
        train: Rows to train on.
        validation: Rows to validate on.
        train_bytes: Bytes of the text to train on.
        validation_bytes: Bytes of the text to validate on.
    """

    name: str
    vocabulary: Vocabulary
    train: RandomAccessSource
    validation: RandomAccessSource
    train_bytes: int
    validation_bytes: int


def flagged_model_dir() -> str:
    """Returns the folder of the run."""
    return FLAGS.model_dir or "runs/language_model"


def flagged_size() -> ModelSize:
    """Returns the size of the model that the flags describe."""
    named = SIZES[FLAGS.size]
    return ModelSize(
        layers=FLAGS.layers or named.layers,
        width=FLAGS.width or named.width,
        heads=FLAGS.heads or named.heads,
    )


def flagged_corpus(strategy: tf.distribute.Strategy) -> Corpus:
    """Reads the text that the flags name, and packs it."""
    text = read_text(FLAGS.text, held_out=FLAGS.held_out, validation_bytes=FLAGS.validation_bytes)
    vocabulary: Vocabulary = ByteVocabulary()
    if FLAGS.vocabulary == "bpe":
        vocabulary = byte_pairs.cached(
            f"{flagged_model_dir()}/{VOCABULARY_FILE}",
            text.train,
            FLAGS.vocabulary_size,
            is_writer=strategies.is_chief(strategy),
        )
    train, validation = (
        packed_rows(documents, vocabulary, context=FLAGS.context, seed=FLAGS.seed)
        for documents in (text.train, text.validation)
    )
    return Corpus(
        text.name,
        vocabulary,
        train,
        validation,
        sum(map(len, text.train)),
        sum(map(len, text.validation)),
    )


def pipelines(corpus: Corpus, strategy: tf.distribute.Strategy) -> tuple[Pipeline, Pipeline]:
    """Builds the training input and the validation input that the flags describe.

    Raises:
        ValueError: If the text has fewer rows than a batch.
    """
    rows = corpus.train.num_examples
    if FLAGS.global_batch_size > rows:
        raise ValueError(
            "`--global_batch_size` must be at most the rows of --context tokens that the text has: "
            f"{rows}. Received: --global_batch_size={FLAGS.global_batch_size}, with "
            f"--context={FLAGS.context} and {corpus.train_bytes:,} bytes to train on. Use "
            f"--global_batch_size={rows}, a smaller --context, or more text."
        )
    train = tfscale.data.input_pipeline(
        corpus.train,
        strategy,
        global_batch_size=FLAGS.global_batch_size,
        seed=FLAGS.seed,
        drop_remainder=True,  # so that every step has the same shape
        preprocess=shifted,
    )
    validation = tfscale.data.input_pipeline(
        corpus.validation,
        strategy,
        # The result does not depend on it.
        global_batch_size=min(FLAGS.global_batch_size, corpus.validation.num_examples),
        shuffle=False,
        preprocess=shifted,
    )
    return train, validation


def flagged_model(corpus: Corpus, size: ModelSize) -> keras.Model:
    """Builds and compiles a model. Call it in the strategy's scope.

    Args:
        corpus: The text to train on.
        size: The size of the model.
    """
    pieces = corpus.vocabulary.pieces
    model = language_model(size, num_tokens=len(pieces), seed=FLAGS.seed)
    if FLAGS.tensor_parallel > 1:
        tfscale.parallel.tensor_parallel(model)
    optimizer = tfscale.optimizers.optimizer_by_name(
        FLAGS.optimizer,
        common_flags.schedule(FLAGS.train_steps),
        weight_decay=FLAGS.weight_decay,
        clip_norm=FLAGS.gradient_clip_norm,
    )
    compile_for_training(
        model,
        optimizer,
        [len(piece) for piece in pieces],
        jit_compile="auto" if FLAGS.pipeline_stages == 1 else False,
    )
    if FLAGS.recompute:
        tfscale.recompute(model, DecoderBlock)
    return model


def model_and_data() -> tuple[keras.Model, Pipeline]:
    """Builds model and training input for `tfscale preflight`. Call it in the strategy's scope.

    Raises:
        ValueError: If the flags ask for stages, which a TPU does not have.
    """
    if FLAGS.pipeline_stages > 1:
        raise ValueError(
            "`--pipeline_stages` must be 1 on a TPU. Received: --pipeline_stages="
            f"{FLAGS.pipeline_stages}. Leave it out."
        )
    strategy = tf.distribute.get_strategy()
    tfscale.set_precision(FLAGS.precision, strategy)
    corpus = flagged_corpus(strategy)
    train, _ = pipelines(corpus, strategy)
    model = tfscale.prepare(
        lambda: flagged_model(corpus, flagged_size()),
        strategy,
        precision=FLAGS.precision,
        microbatches=FLAGS.microbatches,
    )
    return model, train
