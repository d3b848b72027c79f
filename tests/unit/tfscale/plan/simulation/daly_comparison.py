"""Daly's interval beside the best one of the simulation, as a table for docs/howto/plan_job.md.

python -m tests.unit.tfscale.plan.simulation.daly_comparison
"""

from __future__ import annotations

import sys

from tests.unit.tfscale.plan.simulation.test_intervals import job_with
from tests.unit.tfscale.plan.simulation.test_young_daly import exact_optimum
from tfscale.plan import expected_run_seconds, interval_curve

CASES = ((60.0, 40_500.0, 1.0), (30.0, 3600.0, 0.5), (100.0, 1000.0, 1.0))
RATIOS = (0.4, 0.47, 0.54, 0.63, 0.74, 0.86, 1.0, 1.17, 1.36, 1.58, 1.84, 2.15, 2.5)


def row(save: float, mean: float, step: float) -> str:
    """Returns a row of the table, for 64 workers and a restart of 66 s."""
    steps = round(400 * mean / step)
    job = job_with(save, mean, step, steps)
    everys = [round(ratio * job.every) for ratio in RATIOS]
    curve = interval_curve(job, everys=everys, repeats=50)
    worst = max(
        abs(
            forecast.seconds
            / expected_run_seconds(
                train_seconds=steps * step,
                interval_seconds=forecast.job.every * step,
                save_seconds=save,
                failure_seconds=mean,
                restart_seconds=66.0,
            )
            - 1
        )
        for forecast in curve.forecasts
    )
    cost = curve.seconds_at(job.every) / curve.seconds_at(curve.best_every) - 1
    return (
        f"| {save:g} s | {mean:g} s | {job.every * step:.0f} s | {exact_optimum(save, mean):.0f} s "
        f"| {curve.best_every * step:.0f} s | {cost:.3%} | {worst:.2%} |"
    )


if __name__ == "__main__":
    print(
        "| a save | between failures | Daly | exact | simulated | Daly's costs more | "
        "times off, at most |"
    )
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        print(row(*case), flush=True)
    sys.exit(0)
