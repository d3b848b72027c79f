"""A run as one self-contained HTML page: `tfscale report`, and what every recipe leaves."""
