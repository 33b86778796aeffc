from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.script import ScriptSpecification, why_changed, without_values

FACTS = SceneFacts.from_plain({"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0})


def specification(**script: Any) -> ScriptSpecification:
    source = {"file": "/movies/growth.py", "digests": {"growth.py": "a"}, "arguments": {"n": 3}, **script}
    return ScriptSpecification.model_validate({"frames": 3, "script": source})


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ({}, ""),
        ({"digests": {"growth.py": "b"}}, "growth.py has changed"),
        ({"digests": {"growth.py": "a", "cells.py": "c"}}, "cells.py is new"),
        ({"digests": {}}, "growth.py is not used any more"),
        ({"arguments": {"n": 4}}, "the argument n has another value"),
        ({"arguments": {}}, "the argument n has another value"),
    ],
)
def test_why_frames_are_rendered_anew_is_said(script: dict[str, Any], told: str) -> None:
    before, now = specification(), specification(**script)
    assert why_changed(without_values(before.plain()), now, scene=scene_hash(before) != scene_hash(now)) == told
    assert (scene_hash(before) == scene_hash(now)) is (told == ""), "each of them is another scene"


def test_what_only_the_cluster_sees_is_said_too() -> None:
    one = specification(inputs=["/gpfs/a.h5"])
    assert why_changed(without_values(one.plain()), one, scene=True) == "a file of `inputs` has changed on the cluster"
    assert why_changed({"models": []}, one, scene=True) == "they are not from growth.py"


def test_each_frame_has_a_key_of_its_own_that_does_not_ask_for_a_camera() -> None:
    keys = [key for _, key in Plan(specification(), FACTS, "scene").keyed_frames()]
    assert len(set(keys)) == 3
    assert keys == [key for _, key in Plan(specification(), FACTS, "scene").keyed_frames()]
    assert keys[0] != Plan(specification(), FACTS, "other").key(0)


def test_values_of_arguments_are_not_in_the_manifest_nor_said() -> None:
    before, now = specification(arguments={"token": "hunter2"}), specification(arguments={"token": "hunter3"})
    assert "hunter" not in str(without_values(before.plain()))
    assert "hunter" not in why_changed(without_values(before.plain()), now, scene=True)
    assert not why_changed(without_values(now.plain()), now, scene=False)
