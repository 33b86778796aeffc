"""The renderer of a specification."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from airflow_brayns.movie.fields import Color, Part


class Renderer(Part):
    """Brayns' renderer and its parameters.

    :param name: `interactive` (quick) or `production` (soft light, more samples).
    :param samples_per_pixel: samples of each pixel; None for 16 in production, 4 in interactive.
    :param max_ray_bounces: how often a ray of light is followed on.
    :param ao_samples: samples of ambient occlusion; interactive only.
    :param enable_shadows: whether there are shadows; interactive only.
    :param background_color: the colour behind the scene; a fourth number below 1, its alpha, makes it transparent.
    """

    name: Literal["interactive", "production"] = "production"
    samples_per_pixel: int | None = Field(default=None, ge=1, le=1_000_000)
    max_ray_bounces: int = Field(default=3, ge=0, le=1_000_000)
    ao_samples: int = Field(default=1, ge=0, le=1_000_000)
    enable_shadows: bool = True
    background_color: Color = (0.006, 0.01, 0.03)

    def parameters(self) -> dict[str, Any]:
        """The parameters as `set-renderer-…` and `snapshot` take them."""
        background = [*self.background_color, 1.0][:4]
        samples = self.samples_per_pixel or (16 if self.name == "production" else 4)
        common = {
            "samples_per_pixel": samples,
            "max_ray_bounces": self.max_ray_bounces,
            "background_color": background,
        }
        if self.name == "production":
            return common
        return {**common, "ao_samples": self.ao_samples, "enable_shadows": self.enable_shadows}
