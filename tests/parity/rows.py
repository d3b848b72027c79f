"""The cases that show each fixed defect: without the fix, at least one must fail."""

from __future__ import annotations

from strategies.keras_support.defects.table import FIXES

SHOWN_BY: dict[str, tuple[str, ...]] = {
    "C1": ("mlp on=workers2",),
    "C2": ("mlp accumulation=3 on=mirrored2",),
    "C3": ("mlp optimizer=adam ema=overwrite on=mirrored2",),
    "C4": ("mlp steps_per_execution=2 on=mirrored2",),
    "C5": ("subclass rows=21 batch=7 on=mirrored2", "subclass rows=3 batch=1 on=mirrored2"),
    "C6": ("strings data=dataset on=mirrored2",),
    "S1": ("mlp precision=mixed_float16 overflow=True rows=48 batch=8 on=mirrored2",),
    "S2": ("cnn_batchnorm rows=48 batch=8 on=mirrored2",),
    "S3": ("cnn_batchnorm rows=41 batch=8 on=mirrored2",),
    "S4": (
        "mlp clip=clipnorm on=mirrored2",
        "mlp clip=global_clipnorm on=mirrored2",
        "mlp clip=clipvalue on=mirrored2",
    ),
    "S5": ("mlp rows=41 batch=8 on=mirrored2", "mlp rows=23 batch=7 on=mirrored3"),
    "S6": ("scenario generator_trains_each_example_once on=mirrored2",),
    "S7": ("mlp data=unknown_length schedule=exponential on=mirrored2",),
    "S11": ("scenario dropout_differs_between_replicas on=mirrored2",),
    "S12": ("raw_step rows=48 on=mirrored2",),
    "S16": ("mlp rows=48 on=mirrored2",),
    "S20": (
        "lstm rows=48 on=mirrored2",
        "mlp reduction=mean_with_sample_weight weights=sample rows=48 on=mirrored2",
    ),
    "S21": (
        "clipped_gradients on=mirrored2",
        "sharpness_aware on=mirrored2",
        "gradient_penalty on=mirrored2",
    ),
    "S22": ("running_mean on=mirrored2", "running_mean_at_once on=mirrored2"),
    "S23": ("vector_penalty rows=48 on=mirrored2",),
    "S25": (
        "positions optimizer=adam on=mirrored2",
        "sparse_input optimizer=adam data=dataset on=mirrored2",
    ),
    "S27": ("scalar_beside data=dataset on=mirrored2", "shared_beside data=dataset on=mirrored2"),
    "S28": ("own_metrics on=mirrored2",),
    "S33": ("quantizer on=mirrored2",),
    "S35": ("row_maximum batch=8 on=mirrored2",),
    "C19": ("no_weights data=dataset on=mirrored2", "no_input data=dataset on=mirrored2"),
    "C22": ("own_accumulation on=mirrored2", "every_other_step on=mirrored2"),
    "C16": ("closed_vocabulary data=dataset rows=7 batch=1 on=mirrored2",),
    "C17": ("autoencoder on=mirrored2", "wasserstein on=mirrored2"),
    "C23": ("functions_in_step on=mirrored2",),
    "H1": ("mlp precision=mixed_float16 overflow=True rows=48 batch=8 on=workers2",),
}

PROGRAMS = tuple(fix.row for fix in FIXES if fix.row not in SHOWN_BY)
"""Fixes that no comparison with one device shows: workers that stop, files, refusals. The
reproducers of tests/defects cover them."""


def cases_for(row: str) -> tuple[str, ...]:
    """Returns the cases that exercise the fix of `row`.

    Raises:
        ValueError: If no such row is fixed, or no case shows it.
    """
    rows = [fix.row for fix in FIXES]
    if row not in rows or row not in SHOWN_BY:
        raise ValueError(
            f"`row` must be a fixed defect that some case shows. Received: row={row!r}. "
            f"Fixed: {', '.join(rows)}; shown: {', '.join(SHOWN_BY)}."
        )
    return SHOWN_BY[row]
