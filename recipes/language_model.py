r"""Trains a small language model: a decoder-only transformer that predicts the next token.

    python -m recipes.language_model

    python -m recipes.language_model --text='books/**/*.txt' --vocabulary=bpe \
        --distribution_strategy=mirrored --num_replicas=2

    python -m recipes.language_model --scaling=nano,tiny,small --train_steps=200

Rotary positions, RMSNorm, SwiGLU, tied embedding. Without --text it learns from the
source files of Python's standard library. Each file is a document, and documents
packed into one row do not see each other. Some files are held out for validation.

Prints bits per byte of the text held out, which does not depend on the vocabulary,
tokens a second, model FLOPs utilization, and a text that the model continues.
Writes model.keras, report.html, run.json, summary.json, metrics.csv and sample.txt
to --model_dir. With --checkpoint_every=epoch an interrupted run resumes when it is
started again; an epoch is what lies between two validations.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

# TensorFlow's start-up lines would hide those of the recipe. Set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import checkpoint_flag, common_flags, entry_point, flag_sections, number_flags, results
from recipes.language import stages
from recipes.language.build import (
    Corpus,
    flagged_corpus,
    flagged_model_dir,
    flagged_size,
    model_and_data,  # noqa: F401  (what `tfscale preflight` looks at)
)
from recipes.language.rounds import steps_of_a_round
from recipes.language.sampling import sampled_text
from recipes.language.scaling import scaling_table, shown_share, shown_speed
from recipes.language.sizes import SIZES
from recipes.language.training import Trained, train
from recipes.run_record import run_record
from tfscale.cli import NOT_NEGATIVE, POSITIVE, floats, integers
from tfscale.report import REPORT_FILE, Curve, Timing

FLAGS = flags.FLAGS

# An epoch may be longer than a training; --train_steps says how long it is.
_UNUSED = ("train_epochs", "data_dir")
# Where a row of tokens is what other recipes call an example.
_HELP = {
    "global_batch_size": "Rows of one step over all replicas, of --context tokens each; fastest if "
    "a multiple of their number.",
    "train_steps": "Optimizer updates of the whole training.",
    "model_dir": "Folder for the trained model and the summary of the run. Files of an earlier run "
    "are replaced. Default: runs/language_model.",
}
_FILES = ("metrics.csv", "sample.txt")


def define_flags() -> None:
    """Defines this recipe's flags."""
    with flag_sections.section("this recipe"):
        flags.DEFINE_enum("size", "tiny", list(SIZES), "Size of the model.")
        number_flags.define_integer("layers", None, "Blocks. Default: those of --size.")
        number_flags.define_integer(
            "width", None, "Elements of a token's vector. Default: those of --size."
        )
        number_flags.define_integer(
            "heads", None, "Heads of the attention. Default: those of --size."
        )
        number_flags.define_integer("context", 128, "Tokens that the model sees at most.")
        flags.DEFINE_string(
            "text",
            None,
            "Pattern of the files to learn from, with ** for any folders. Default: the source "
            "files of Python's standard library, without its tests.",
        )
        number_flags.define_float(
            "held_out",
            0.05,
            "Fraction of the files that are for validation; of a single file, its end.",
            floats("in (0, 1)", "0.05", lambda part: 0 < part < 1),
        )
        number_flags.define_integer(
            "validation_bytes", 65_536, "Most bytes of the files held out to validate on."
        )
        number_flags.define_integer(
            "steps_per_validation",
            None,
            "Steps between two validations; divides --train_steps. Default: about a tenth of them.",
        )
        flags.DEFINE_enum(
            "vocabulary",
            "bytes",
            ["bytes", "bpe"],
            "What a token is: a byte, or a piece of text that a byte-pair encoding learns. bpe "
            'needs pip install "tfscale[language]".',
        )
        number_flags.define_integer(
            "vocabulary_size", 4096, "Tokens of --vocabulary=bpe.", integers(at_least=257)
        )
        number_flags.define_float(
            "weight_decay",
            0.1,
            "Fraction of every matrix, but the embedding, that an update subtracts, times the "
            "learning rate.",
            NOT_NEGATIVE,
        )
        flags.DEFINE_bool(
            "recompute",
            False,
            "Keep only the inputs of each block, and compute the rest again in the backward pass: "
            "less memory for activations, and the forward pass twice.",
        )
        number_flags.define_integer(
            "tensor_parallel",
            1,
            "Devices that share each replica's matrices, with --distribution_strategy=mirrored; "
            "divides --heads. Experimental.",
        )
        stages.define_flags()
        flags.DEFINE_list(
            "scaling",
            None,
            "Sizes to train one after the other instead, on the same tokens, for a table: "
            "nano,tiny,small.",
        )
    common_flags.define(without=_UNUSED)
    with flag_sections.section("results"):
        number_flags.define_float(
            "peak_flops",
            None,
            "Floating-point operations a second that all devices can do, for the utilization. "
            "Default: measured before and after the training, for a second.",
            POSITIVE,
        )
        flags.DEFINE_string("prompt", "def ", "How the sampled text begins.")
        number_flags.define_integer("sample_length", 400, "Tokens of the sampled text.")
        number_flags.define_float(
            "temperature",
            0.7,
            "Temperature of the sampled text: 0 always takes the most probable token, 1 draws from "
            "the model as it is.",
            NOT_NEGATIVE,
        )
    for name, text in _HELP.items():
        FLAGS[name].help = text
    FLAGS.set_default("global_batch_size", 16)
    FLAGS.set_default("train_steps", 1200)
    FLAGS.set_default("optimizer", "adamw")
    FLAGS.set_default("warmup_steps", 30)
    FLAGS.set_default("gradient_clip_norm", 1.0)
    entry_point.define(__doc__)


def main(_: Sequence[str]) -> None:
    """Trains and samples according to the flags, and writes the results."""
    started = time.monotonic()
    size = flagged_size()
    steps = steps_of_a_round(FLAGS.train_steps, FLAGS.steps_per_validation)
    refuse_unused_flags()
    stages.refuse_too_many_devices([SIZES[name] for name in FLAGS.scaling or ()] or [size])
    devices = max(FLAGS.tensor_parallel, FLAGS.pipeline_stages)  # one of them is 1
    strategy = common_flags.strategy(devices_per_replica=devices)
    is_chief = strategies.is_chief(strategy)
    tfscale.set_precision(FLAGS.precision, strategy)
    model_dir = flagged_model_dir()
    if is_chief:
        results.make_writable(model_dir, *_FILES)
    corpus = flagged_corpus(strategy)
    if is_chief:
        print(
            f"{corpus.train_bytes:,} bytes to train on and {corpus.validation_bytes:,} to validate "
            f"on, of {corpus.name}; vocabulary: {corpus.vocabulary.name}"
        )
    if FLAGS.scaling:
        outcomes = {
            name: train(corpus, SIZES[name], strategy, steps_of_a_round=steps)
            for name in FLAGS.scaling
        }
        if is_chief:
            write_scaling(outcomes, strategy, started)
        return
    checkpoint = checkpoint_flag.callback(
        model_dir, steps_per_epoch=steps, num_steps=FLAGS.train_steps
    )
    callbacks = [] if checkpoint is None else [checkpoint]
    trained = train(corpus, size, strategy, steps_of_a_round=steps, callbacks=callbacks)
    is_divided = FLAGS.tensor_parallel > 1
    model = tfscale.parallel.whole(trained.model) if is_divided else trained.model
    plain = results.predictor(model)  # on every worker: with --shard=3 each has a part of it
    if not is_chief:
        return
    write_run(trained, plain, corpus, strategy, started)
    if checkpoint is not None:
        checkpoint.directory.clear()  # a finished run is not resumed


def refuse_unused_flags() -> None:
    """Checks that no flag is set that another one makes meaningless.

    Raises:
        ValueError: If one is.
    """
    unknown = [name for name in FLAGS.scaling or () if name not in SIZES]
    if unknown:
        raise ValueError(
            f"`--scaling` must be names of sizes: {', '.join(SIZES)}. Received: "
            f"{', '.join(unknown)}. Leave out what is not one of them."
        )
    if FLAGS.tensor_parallel > 1 and FLAGS.distribution_strategy != "mirrored":
        raise ValueError(
            "`--tensor_parallel` must be 1 unless --distribution_strategy=mirrored. Received: "
            f"--tensor_parallel={FLAGS.tensor_parallel} with "
            f"--distribution_strategy={FLAGS.distribution_strategy}. Set it to mirrored."
        )
    stages.refuse_wrong_flags()
    unused = []
    if FLAGS.scaling:
        unused += [("size", "scaling"), ("layers", "scaling"), ("width", "scaling")]
        unused += [("heads", "scaling"), ("checkpoint_every", "scaling")]
    if FLAGS.vocabulary == "bytes":
        unused.append(("vocabulary_size", "vocabulary"))
    for name, because in unused:
        if FLAGS[name].present:
            shown = ",".join(FLAGS.scaling) if because == "scaling" else FLAGS.vocabulary
            raise ValueError(
                f"`--{name}` must not be set with --{because}={shown}. Received: "
                f"--{name}={FLAGS[name].value}. Leave one of them out."
            )


def write_run(
    trained: Trained,
    plain: keras.Model,
    corpus: Corpus,
    strategy: tf.distribute.Strategy,
    started: float,
) -> None:
    """Samples a text with a plain copy of the model, and writes and prints the results."""
    model_dir = flagged_model_dir()
    text = sampled_text(
        plain,
        corpus.vocabulary,
        prompt=FLAGS.prompt.encode(),
        length=FLAGS.sample_length,
        context=FLAGS.context,
        temperature=FLAGS.temperature,
        seed=FLAGS.seed,
    ).decode("utf-8", "replace")
    found = measures(trained)
    timing = timing_of(trained, started)
    summary = {
        **found,
        "peak_flops": trained.peak_flops,
        "training_seconds": trained.training_seconds,
        "total_seconds": timing.total_seconds,
        "num_replicas": strategy.num_replicas_in_sync,
        "flags": flag_sections.values(),
        "history": trained.log.history,
    }
    record = run_record(
        f"Language model of {corpus.name}",
        strategy,
        results=found,
        timing=timing,
        history=trained.log.history,
        curves=[
            Curve(
                "learning rate of an epoch's last update",
                {"learning rate": trained.log.column("learning_rate")},
                x_name="epoch",
                scale="linear",
            )
        ],
        stages=trained.stages,
        notes=[
            "An epoch is what lies between two validations. Trained on "
            f"{corpus.train_bytes:,} bytes and validated on {corpus.validation_bytes:,}; "
            f"vocabulary: {corpus.vocabulary.name}.",
            "flops_utilization: 6 N + 12 L H Q T operations a token (arXiv:2204.02311, appendix "
            f"B), of {trained.peak_flops:.3g} a second.",
            f"Sampled at temperature {FLAGS.temperature:g}: {text}",
        ],
    )
    texts = {"metrics.csv": trained.log.csv(), "sample.txt": text}
    results.write(model_dir, plain, summary, record, texts)
    print(f"\n{text}\n")
    print(f"parameters: {trained.num_parameters:,}")
    print(f"bits per byte of the text held out: {trained.bits_per_byte:.3f}")
    print(f"tokens per second: {shown_speed(trained.tokens_per_second)}")
    print(
        f"model FLOPs utilization: {shown_share(trained.flops_utilization)} of "
        f"{trained.peak_flops / 1e9:.0f} GFLOP/s"
    )
    print(f"training time: {trained.training_seconds:.1f} s")
    print(f"model directory: {model_dir}")
    print(f"report: {model_dir}/{REPORT_FILE}")


def write_scaling(
    outcomes: dict[str, Trained], strategy: tf.distribute.Strategy, started: float
) -> None:
    """Writes and prints the table of several trainings."""
    model_dir = flagged_model_dir()
    table = scaling_table(outcomes)
    by_size = {name: measures(trained) for name, trained in outcomes.items()}
    history = {
        f"{name}, val_bits_per_byte": trained.log.history["val_bits_per_byte"]
        for name, trained in outcomes.items()
    }
    record = run_record(
        "Sizes of a language model",
        strategy,
        results={f"{name}_{what}": x for name, of in by_size.items() for what, x in of.items()},
        timing=Timing(total_seconds=time.monotonic() - started),
        curves=[Curve("bits per byte of the text held out", history, x_name="epoch")],
        notes=[table],
    )
    summary = {"sizes": by_size, "flags": flag_sections.values()}
    results.write(model_dir, None, summary, record, {"scaling.md": f"{table}\n"})
    print(f"\n{table}\n")
    print(f"report: {model_dir}/{REPORT_FILE}")


def measures(trained: Trained) -> dict[str, Any]:
    """Returns what was measured, without what was not, most important first."""
    found = {
        "bits_per_byte": trained.bits_per_byte,
        "tokens_per_second": trained.tokens_per_second,
        "flops_utilization": trained.flops_utilization,
        "num_parameters": trained.num_parameters,
        "num_tokens": trained.num_tokens,
    }
    return {name: value for name, value in found.items() if value is not None}


def timing_of(trained: Trained, started: float) -> Timing:
    """Returns how long a training took."""
    first = trained.log.first_step_ended
    return Timing(
        total_seconds=time.monotonic() - started,
        startup_seconds=None if first is None else first - started,
        training_seconds=trained.training_seconds,
        seconds_per_step=trained.seconds_per_step,
        num_steps=FLAGS.train_steps,
        global_batch_size=FLAGS.global_batch_size,
    )


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
