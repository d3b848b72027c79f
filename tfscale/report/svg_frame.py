"""The frame of a picture that is a file of its own: a title and two axes in an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tfscale.report.ticks import Axis


@dataclass(frozen=True)
class Frame:
    """Where a picture has its axes.

    Attributes:
        width: Of the picture, in units of the SVG, as all that follows.
        height: Of the picture.
        left: From the left edge to the y axis.
        top: From the upper edge to the highest value.
        right: From the largest x to the right edge.
        bottom: From the x axis to the lower edge.
    """

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def end(self) -> int:
        """The x coordinate where the axes end."""
        return self.width - self.right

    @property
    def floor(self) -> int:
        """The y coordinate of the x axis."""
        return self.height - self.bottom

    def placed(self, axes: tuple[Axis, Axis], x: float, y: float) -> tuple[float, float]:
        """Returns the coordinates of a point: `x` on the first axis, `y` on the second one."""
        across = self.left + (self.end - self.left) * axes[0].place(x)
        return round(across, 1), round(self.floor - (self.floor - self.top) * axes[1].place(y), 1)

    def drawn(self, title: str, x_name: str, axes: tuple[Axis, Axis], parts: Sequence[str]) -> str:
        """Returns a whole SVG.

        Args:
            title: Above the picture.
            x_name: Below the x axis.
            axes: Of x and of y.
            parts: SVG elements, drawn over the lines of the axes in this order.
        """
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="sans-serif" font-size="12">'
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>'
            f'<text x="{self.left}" y="22" font-size="14">{escape(title)}</text>'
            f"{self._axes(*axes, x_name)}{''.join(parts)}</svg>\n"
        )

    def _axes(self, x_axis: Axis, y_axis: Axis, x_name: str) -> str:
        parts = []
        for share, label in x_axis.placed():
            x = round(self.left + (self.end - self.left) * share, 1)
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{self.top}" y2="{self.floor}" stroke="#eee"/>'
                f'<text x="{x}" y="{self.floor + 18}" text-anchor="middle">{label}</text>'
            )
        for share, label in y_axis.placed():
            y = round(self.floor - (self.floor - self.top) * share, 1)
            parts.append(
                f'<line x1="{self.left}" x2="{self.end}" y1="{y}" y2="{y}" stroke="#eee"/>'
                f'<text x="{self.left - 6}" y="{y + 4}" text-anchor="end">{label}</text>'
            )
        parts.append(
            f'<text x="{(self.left + self.end) // 2}" y="{self.height - 8}" '
            f'text-anchor="middle">{escape(x_name)}</text>'
        )
        return "".join(parts)
