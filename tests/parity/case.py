"""Repeats one case and shows where it differs.

python -m tests.parity.case "mlp clip=clipnorm rows=61 on=mirrored3"
python -m tests.parity.case --disable=S4 "mlp clip=clipnorm on=mirrored2"
"""

from __future__ import annotations

import argparse
import sys

from tests.parity.report import table
from tests.parity.trial import try_cases


def main() -> int:
    """Returns 0 if the case matches."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", help="text of a configuration or scenario, as in a report")
    parser.add_argument(
        "--stock", action="store_true", help="also train under TensorFlow's strategy"
    )
    parser.add_argument("--disable", default="", help="row of the defect whose fix is left out")
    arguments = parser.parse_args()
    result = try_cases([arguments.case], stock=arguments.stock, disable=arguments.disable)[0]
    print(table([result]))
    for name, verdict in (("ours", result.verdict), ("stock", result.stock)):
        if verdict is not None:
            print(f"{name}: {verdict.kind}, largest difference {verdict.difference:.2e}", end=" ")
            print(f"({verdict.where})\n{verdict.detail}")
    return 0 if result.verdict.kind == "matched" else 1


if __name__ == "__main__":
    sys.exit(main())
