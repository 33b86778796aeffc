"""Which services may be started anew, so that no fault of a scene starts services for ever."""

from __future__ import annotations

from collections import Counter

from airflow_brayns.movie.worker import Aside


class Restarts:
    """The restarts of a production: one on each node.

    An end that a frame caused does not count as long as other frames come. Where none has ever come and the services
    hang, it is one for all nodes, since the scene is at fault then, and each hanging service costs the whole
    `frame_timeout`.
    """

    def __init__(self) -> None:
        self._number: Counter[str] = Counter()
        self._rendered_before: dict[str, int] = {}
        self._hung = False

    def allows(self, place: str, aside: Aside, rendered: int) -> bool:
        """Tell whether a service may be started anew in the place of one that is set aside; if so, it counts.

        :param place: its node, see `RenderService.place`.
        :param rendered: how many frames the production has rendered.
        """
        if aside.frame is not None and rendered > self._rendered_before.get(place, 0):
            again = True
        elif aside.hung and not rendered:
            again, self._hung = not self._hung, True
        else:
            self._number[place] += 1
            again = self._number[place] <= 1
        if again:
            self._rendered_before[place] = rendered
        return again
