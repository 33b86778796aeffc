"""Overlays: all that is drawn over a movie's frames when it is encoded, for Pillow and for ffmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_brayns.movie.overlay_layers import Layer, has_overlays, layers_of
from airflow_brayns.movie.plan import Plan

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

POSTER = "poster.png"
_FIRST_INPUT = 2  # ffmpeg's frames are input 0, and what it writes into the movie's file is input 1


@dataclass(frozen=True)
class Drawing:
    """All that is drawn over a movie's frames.

    :param size: the frames' width and height.
    :param layers: what is drawn, each with a place of its own.
    """

    size: tuple[int, int]
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, plan: Plan) -> Drawing | None:
        """What is drawn over a plan's frames; None where nothing is.

        :raises InvalidSetting: it cannot be drawn; the error names the field.
        """
        layers = layers_of(plan) if has_overlays(plan.specification) and plan.frames else ()
        return cls(plan.specification.resolution, tuple(layers)) if layers else None

    def on(self, image: Picture, index: int) -> Picture:
        """A frame with all that is drawn over it; what is transparent in the frame stays so.

        :param index: which of the plan's frames it is, the first is 0.
        """
        over = image.convert("RGBA")
        over.alpha_composite(self.over(index))
        return over

    def over(self, index: int) -> Picture:
        """All that is drawn over one frame, as one picture of its size."""
        from PIL import Image

        over = Image.new("RGBA", self.size)
        for layer in self.layers:
            over.alpha_composite(layer.picture(layer.shown[index]), layer.box[:2])
        return over

    # ---- for ffmpeg --------------------------------------------------------------------------------------------
    def _names(self) -> list[str]:
        return [f"layer{number}.png" for number in range(len(self.layers))]

    def write(self, folder: Path) -> None:
        """Write each layer's file, of one picture or of one for each frame, and the poster's, of all over the frame in the
        middle.
        """
        for name, layer in zip(self._names(), self.layers, strict=True):
            with (folder / name).open("wb") as file:
                file.writelines(layer.encoded())
        self.over(len(self.layers[0].shown) // 2).save(folder / POSTER)

    def inputs(self, rate: str, folder: Path | None = None) -> list[str]:
        """ffmpeg's options that read the layers' files.

        :param rate: the movie's frames a second.
        :param folder: the folder that they were written to; None for the one that ffmpeg runs in.
        """
        paths = [str(folder / name) if folder else name for name in self._names()]
        return [word for path in paths for word in ("-f", "png_pipe", "-framerate", rate, "-i", path)]

    def graph(self) -> str:
        """ffmpeg's filters that draw the layers over the frames; what they make is the input of the filter behind them."""
        graph, before = "", "[0:v]"
        for number, layer in enumerate(self.layers, _FIRST_INPUT):
            left, top, _, _ = layer.box
            # in the frames' own colours: a conversion there and back would change them
            graph += f"{before}[{number}:v]overlay=x={left}:y={top}:eval=init:format=rgb[drawn{number}];"
            before = f"[drawn{number}]"
        return graph.removesuffix(f"{before};") + ","
