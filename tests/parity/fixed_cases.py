"""The cases of `make test`, and those of `make thorough`: sentences and texts."""

from __future__ import annotations

from tests.parity.kinds import NEW

CONFIGURATIONS: dict[str, str] = {
    "every batch has fewer rows than there are replicas": "subclass rows=7 batch=1 on=mirrored3",
    "the norm of all gradients is clipped": (
        "mlp optimizer=adam clip=global_clipnorm accumulation=2 on=mirrored3"
    ),
    "values are clipped on two workers": (
        "mlp clip=clipvalue steps_per_execution=2 validation=arrays rows=41 batch=8 on=workers2"
    ),
    "a pipeline yields uneven batches": (
        "mlp clip=clipnorm loss_scaling=True data=pipeline rows=61 batch=12 on=mirrored3"
    ),
    "microbatches add up to the whole batch on two workers": (
        "two_outputs microbatches=2 optimizer=adam rows=22 batch=7 on=workers2"
    ),
}

# What the first seven show is in `make test` in short: workers train in other cases above, and the
# others are in test_loss_weighting.py (a weighted mean), test_batch_norm.py (penalties around a
# collective, synchronized statistics), test_tape_gradients.py (clipping in a custom step, a
# penalty on a gradient) and tests/workers/test_whole_batch.py (statistics used in the same step).
CONFIGURATIONS_AT_LENGTH: dict[str, str] = {
    "a weighted mean divides by all weights": (
        "mlp reduction=mean_with_sample_weight weights=sample rows=41 batch=8 on=mirrored2"
    ),
    "a penalty is counted per replica although a sum synchronizes the replicas before": (
        "add_loss reduction=sum rows=41 batch=8 on=mirrored3"
    ),
    "a custom step clips by the norm of the whole batch's gradient": (
        "clipped_gradients rows=22 batch=7 on=mirrored2"
    ),
    "a running mean that is used in the same step is equal on two workers": (
        "running_mean_at_once rows=22 batch=7 on=workers2"
    ),
    "two workers train": "mlp rows=48 on=workers2",
    "synchronized statistics are those of the whole batch": (
        "cnn_batchnorm rows=41 batch=8 on=mirrored2"
    ),
    "a penalty on a gradient is differentiated through the reduction over replicas": (
        "gradient_penalty optimizer=adam rows=22 batch=7 on=mirrored3"
    ),
    "gradients accumulate over uneven batches": "mlp accumulation=3 rows=41 batch=8 on=mirrored2",
    "several steps run in one execution": (
        "mlp steps_per_execution=5 schedule=piecewise rows=66 batch=12 on=mirrored2"
    ),
    "images of an empty replica batch are pooled": (
        "cnn precision=float32 rows=41 batch=8 on=mirrored2"
    ),
    "an overflow on one replica skips the step on all": (
        "mlp precision=mixed_float16 overflow=True rows=48 batch=8 on=mirrored2"
    ),
    "a custom loss is reported unchanged on two workers": "raw_step rows=48 on=workers2",
    "data of unknown length count their steps in every epoch": (
        "mlp data=unknown_length schedule=exponential on=mirrored2"
    ),
    "a decayed average of the weights overwrites them": (
        "mlp optimizer=adam ema=overwrite weight_decay=True on=mirrored3"
    ),
    "every batch is uneven from the first": "subclass rows=21 batch=7 on=mirrored2",
    "strings are looked up": "strings data=dataset on=mirrored2",
    "a generator of unknown length counts its steps": (
        "mlp data=generator schedule=exponential on=mirrored2"
    ),
    "a custom loss counts once": "raw_step rows=48 on=mirrored3",
    "a sum is a sum over all replicas": "mlp reduction=sum rows=41 batch=8 on=workers2",
    "a generator's batches count equally in the loss of each output": (
        "two_outputs rows=22 batch=7 data=generator on=mirrored2"
    ),
    "a custom step reports a square root": "own_step weights=sample rows=48 on=mirrored2",
    "a penalty on activations stays finite if a replica has no row": (
        "add_loss rows=21 batch=7 on=mirrored2"
    ),
    "an overflow on one worker skips the step on both": (
        "mlp precision=mixed_float16 overflow=True rows=48 batch=8 on=workers2"
    ),
    "a codebook has the counts and sums of the whole batch": (
        "quantizer rows=22 batch=7 on=mirrored2"
    ),
    "an update inside a condition happens on all replicas or on none": (
        "own_accumulation optimizer=adam rows=22 batch=7 on=mirrored2"
    ),
    "microbatches of masked tokens are clipped together on two workers": (
        "lstm microbatches=2 optimizer=adam clip=global_clipnorm accumulation=2 rows=41 batch=8 "
        "on=workers2"
    ),
    "microbatches look up a table by tokens and positions": (
        "tokens_and_positions microbatches=4 optimizer=adam rows=22 batch=7 on=mirrored2"
    ),
    "rows of a table looked up by position count once": (
        "tokens_and_positions optimizer=adam rows=22 batch=7 on=mirrored2"
    ),
    "a model without call() trains two parts with two optimizers": (
        "wasserstein optimizer=adam rows=22 batch=7 on=mirrored2"
    ),
    "gradients of attention are clipped and accumulate": (
        "attention optimizer=adam clip=global_clipnorm accumulation=2 on=mirrored3"
    ),
    "a masked loss is a mean over all tokens that are not masked": (
        "lstm optimizer=adam clip=global_clipnorm rows=41 batch=8 on=mirrored3"
    ),
    "two losses have different reductions": (
        "two_outputs reduction=mean_with_sample_weight weights=sample rows=41 batch=8 on=mirrored2"
    ),
    "an uneven batch runs eagerly": "subclass run_eagerly=True rows=22 batch=7 on=mirrored2",
    **{
        f"{name} trains on three replicas": (
            f"{name} optimizer=adam data={'arrays' if kind.takes_arrays else 'dataset'} "
            "rows=22 batch=7 on=mirrored3"
        )
        for name, kind in NEW.items()
    },
    "a second update reads what the first one of another replica wrote": (
        "functions_in_step optimizer=adam rows=22 batch=7 on=mirrored_shard3_2"
    ),
    "a teacher follows weights after their update": (
        "teacher optimizer=adadelta clip=global_clipnorm rows=22 batch=7 on=mirrored_shard3_3"
    ),
    "parts of rows of a lookup are scattered": (
        "positions optimizer=rmsprop clip=clipnorm rows=7 batch=1 on=mirrored_shard2_2"
    ),
    "a part below the largest norm is not scaled": (
        "unreduced_loss optimizer=nadam clip=clipnorm rows=66 batch=12 on=mirrored_shard2_2"
    ),
    "microbatches add up parts on two workers": (
        "subclass microbatches=4 optimizer=rmsprop rows=48 batch=12 on=workers_shard3_2"
    ),
    "rows of lookups in an eager step are clipped": (
        "tokens_and_positions optimizer=adamw clip=global_clipnorm run_eagerly=True rows=22 "
        "batch=7 on=mirrored_shard3_3"
    ),
    "a pipeline of four stages clips and accumulates": (
        "skipping optimizer=adam clip=global_clipnorm accumulation=2 microbatches=4 "
        "pipeline_schedule=1f1b rows=22 batch=7 on=pipeline4_2"
    ),
    "attention under a mask is divided over two devices of two replicas": (
        "two_blocks optimizer=adamw ema=plain rows=22 batch=7 on=tensor2_2"
    ),
    "float32 rounds no more than with rows in another order": (
        "mlp optimizer=adam precision=float32 rows=41 batch=8 on=mirrored2"
    ),
}

OVERFLOW = "overflow_on_the_last_replica"
ONCE = "generator_trains_each_example_once"
SCENARIOS: dict[str, tuple[str, ...]] = {
    "mirrored2": (
        "freeze_and_recompile",
        ONCE,
        OVERFLOW,
    ),
    "workers2": ("second_fit", "batch_methods", ONCE, OVERFLOW),
}
SCENARIOS_AT_LENGTH: dict[str, tuple[str, ...]] = {
    "mirrored2": (
        "batch_methods",  # two workers do it in `make test`
        "dropout_differs_between_replicas",  # as test_random_seeds.py shows in `make test`
        "initial_epoch",
        "validation_steps_and_frequency",
        "class_weight",
        "validation_split",
        "second_fit",
        "recompile",
        "evaluate_and_predict_first",
        "early_stopping",
        "dict_inputs",
    ),
    "workers2": ("class_weight", "early_stopping"),
}


def scenario(name: str, strategy: str) -> str:
    """Returns the text of a scenario's case."""
    return f"scenario {name} on={strategy}"
