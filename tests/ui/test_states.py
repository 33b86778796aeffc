"""Each state of the page, made of what tasks store: Airflow's own API server and UI in this process, and no other part of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.ffmpeg import ffmpeg
from tests.support.bounds import until
from tests.support.page import NOW, Stored, booking, progress, service, token_of
from tests.ui.browser import barriers, details, picture, seen_with

HOSTILE = "<script>alert(1)</script>"


def waiting(stored: Stored, number: int, wait: Any, **more: Any) -> None:
    run = stored.run(run_id=f"manual__2026-11-26T10:0{number}:00+00:00", **more)
    stored.task(run, "brayns", "deferred", allocation=booking(number), services=[], brayns_wait=wait)


def everything(stored: Stored) -> None:
    """A row in each state."""
    stored.run(state="queued", run_id="manual__2026-11-26T10:00:00+00:00")
    start = "2026-11-26T18:30:00"
    waiting(stored, 2, {"1002": {"state": "pending", "reason": "Priority", "start": start}})
    waiting(stored, 3, {"1003": {"state": "running", "nodes": ["r1i1n3"], "services": 1, "listening": 0}})
    stored.session(number=4, run_id="manual__2026-11-26T10:04:00+00:00")
    run = stored.run(run_id="manual__2026-11-26T10:05:00+00:00")
    soon = {"allocation": booking(5)["name"], "until": (NOW + timedelta(minutes=40)).isoformat()}
    near = service(5, endpoint="127.0.0.1:40005", ends_at=None)
    stored.task(run, "brayns", "success", allocation=booking(5, cluster={"scheduler": "local"}), services=[near])
    stored.task(run, "keep", "deferred", brayns_held=soon)
    run = stored.run("my_movie", run_id=f"{HOSTILE}\u202e{'x' * 200}", triggering_user_name=HOSTILE)
    stored.task(run, "brayns", "success", allocation=booking(6, plugins=[HOSTILE]), services=[service(6)])
    stored.task(run, "render", "running", brayns_progress=progress(312, 1440, nodes={f"n{n}": n for n in range(20)}))
    run = stored.run(state="success", run_id="manual__2026-11-26T10:07:00+00:00", end_date=NOW)
    stored.task(run, "brayns", "success", allocation=booking(7), services=[service(7)])
    over = {"allocation": booking(7)["name"], "until": NOW.isoformat(), "why": "Job 1007 was given back."}
    stored.task(run, "keep", "success", brayns_held=over)
    stored.run(state="failed", run_id="manual__2026-11-26T10:08:00+00:00", end_date=NOW)
    run = stored.run("brayns_movie", state="success", run_id="manual__2026-11-26T10:09:00+00:00", end_date=NOW)
    made = {"movie": "/data/neuron.mp4", "poster": "/data/neuron.poster.jpg"}
    stored.task(run, "movie", "success", brayns_progress=progress(240, 240), brayns_movie=made)


def test_every_state_is_told_in_plain_words(browser: Any, address: str, stored: Stored) -> None:
    everything(stored)
    with seen_with(token_of("user"), browser, address) as seen:
        seen.get_by_text("Services (6 running)").wait_for()
        for words in ("Asked for", "Other jobs come first. Slurm expects it to start at 2026-11-26 18:30:00",
                      "On r1i1n3: braynsService starts.", "Job 1007 was given back.", "312 of 1440 frames"):  # fmt: skip
            assert seen.get_by_text(words).count(), words
        assert seen.locator(".state").all_inner_texts().count("Ready") == 2
        assert seen.locator(".warn").count() == 0, "forty minutes are not soon"
        assert seen.locator(".brayns script").count() == 0
        seen.get_by_text("Connect", exact=True).first.click()
        picture(seen, "states")
        seen.locator("li", has_text="10:09").scroll_into_view_if_needed()
        picture(seen, "movies")


def test_a_movie_plays_in_the_page_and_one_that_is_rendered_is_seen_as_it_grows(
    browser: Any, address: str, stored: Stored, tmp_path: Path
) -> None:
    source = ("-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=12:duration=2")
    files = {
        "movie": tmp_path / "turn.webm",
        "poster": tmp_path / "turn.poster.jpg",
        "contact_sheet": tmp_path / "turn.sheet.jpg",
    }
    for path in files.values():
        still = () if path == files["movie"] else ("-frames:v", "1", "-update", "1")
        subprocess.run([ffmpeg(), *source, *still, path], check=True)
    glimpse = tmp_path / "frames" / "glimpse"
    glimpse.mkdir(parents=True)
    shutil.copy(files["contact_sheet"], glimpse / "contact-sheet.jpg")
    shutil.copy(files["poster"], glimpse / "newest.jpg")
    run = stored.run("brayns_movie", state="success", run_id="manual__2026-11-26T10:01:00+00:00", end_date=NOW)
    used = {"node_hours": 1.84, "efficiency": 0.93}
    made = {name: str(path) for name, path in files.items()}
    stored.task(run, "movie", "success", brayns_progress=progress(240, 240), brayns_movie=made, brayns_used=used)
    run = stored.run("my_movies", run_id="manual__2026-11-26T10:02:00+00:00")
    going_on = progress(120, 240, frames_dir=str(tmp_path / "frames"))
    stored.task(run, "render", "running", allocation=booking(6), brayns_progress=going_on)
    with seen_with(token_of("viewer"), browser, address) as seen:
        movie = seen.locator("li", has_text="10:01")
        asked: list[str] = []
        seen.on("request", lambda request: asked.append(request.url) if "brayns/movies" in request.url else None)
        movie.get_by_text("1.84, 93 % of them rendering").wait_for()
        assert asked == [], "nothing is fetched of what nobody looks at"
        movie.get_by_text("See it").click()
        seen.wait_for_function("() => document.querySelector('video').readyState >= 2")
        seen.evaluate("async () => { const v = document.querySelector('video'); v.muted = true; await v.play() }")
        seen.wait_for_function("() => document.querySelector('video').currentTime > 1")
        seen.evaluate("() => document.querySelector('video').pause()")
        with seen.expect_download() as download:
            movie.get_by_text("Download the movie").click()
        assert Path(download.value.path()).read_bytes() == files["movie"].read_bytes()
        live = seen.locator("li", has_text="10:02")
        live.get_by_text("See what is there").click()
        seen.wait_for_function("() => [...document.querySelectorAll('.look img')].length === 4")
        seen.wait_for_function("() => [...document.querySelectorAll('.look img')].every(one => one.naturalWidth > 0)")
        picture(seen, "watching")
        files["poster"].unlink()
        seen.reload()
        seen.locator("li", has_text="10:01").get_by_text("See it").click()
        seen.get_by_text("Poster: The API server's machine has no such file; on the worker it is").wait_for()


def test_a_barrier_would_be_found(browser: Any, address: str, stored: Stored) -> None:
    """What looks for barriers in each picture looks at the page, and at its colours."""
    faint = "<p style='color: #ccc; background: #fff'>hard to read</p><img src='brayns/files/icon.svg'>"
    with seen_with(token_of("viewer"), browser, address) as seen:
        seen.get_by_text("Services (").wait_for()
        assert barriers(seen) == []
        seen.evaluate("html => document.querySelector('.brayns > div').insertAdjacentHTML('beforeend', html)", faint)
        assert {"color-contrast", "image-alt"} <= {one.partition(" ")[0] for one in barriers(seen)}


def test_whoever_may_only_look_has_no_way_to_act(browser: Any, address: str, stored: Stored) -> None:
    everything(stored)
    with seen_with(token_of("viewer"), browser, address) as seen:
        seen.get_by_text("You may look at what runs, and not allocate").wait_for()
        acts = seen.get_by_role("button").filter(has_text="…")
        assert acts.count() == 7 and all(one.is_disabled() for one in acts.all())
        picture(seen, "viewer")


def test_the_form_has_what_the_trigger_form_has_and_a_link_fills_it_in(
    browser: Any, address: str, stored: Stored
) -> None:
    path = f"plugin/brayns?minutes=45&account={HOSTILE}&plugins=a,{HOSTILE}"
    prod = {"name": "prod", "time_limit": "1-00:00:00", "nodes": 32}
    offers = {"brayns_default": {"partitions": [prod], "accounts": ["proj3", HOSTILE]}}
    stored.task(stored.run("brayns_reaper", state="success"), "reap", "success", brayns_offers=offers)
    with seen_with(token_of("user"), browser, address, path, details=details) as seen:
        assert seen.get_by_label("Minutes").input_value() == "45"
        assert seen.get_by_label("Account").input_value() == HOSTILE
        assert seen.get_by_label(HOSTILE).is_checked()
        seen.locator("datalist#brayns-account-offers option[value=proj3]").wait_for(state="attached")
        seen.get_by_label("Partition").fill("prod")
        seen.get_by_text("prod: at most 1-00:00:00 on 32 nodes.").wait_for()
        assert seen.locator(".brayns script").count() == 0
        seen.get_by_text("What would run").click()
        told = seen.get_by_label("The same from a terminal", exact=True).inner_text()
        assert '"minutes":45' in told and "airflow dags trigger brayns_session -c '" in told
        picture(seen, "form")
        seen.get_by_text("More", exact=True).click()
        seen.get_by_label("Nodes").fill("0")
        seen.get_by_text("More", exact=True).click()
        seen.get_by_role("button", name="Allocate", exact=True).click()
        seen.get_by_label("Nodes").wait_for()  # what is folded in is shown: nothing happened, and nothing was said
        assert seen.evaluate("() => document.activeElement.id") == "brayns-nodes"
        assert seen.evaluate("() => document.querySelector('#brayns-nodes').validity.rangeUnderflow")


def test_a_release_is_asked_about_first_and_what_is_refused_is_said(browser: Any, address: str, stored: Stored) -> None:
    stored.session(number=4)
    asked: list[tuple[str, str, Any]] = []

    def answer(route: Any) -> None:
        request = route.request
        asked.append((request.method, request.url.removeprefix(address), request.post_data_json))
        route.fulfill(status=403, content_type="application/json", body='{"detail": "Forbidden"}')

    with seen_with(token_of("user"), browser, address, **{"taskInstances/**": answer}) as seen:
        seen.get_by_role("button", name="Release…").click()
        seen.get_by_role("dialog").wait_for()
        picture(seen, "confirm")
        assert asked == []
        seen.get_by_role("button", name="Release", exact=True).click()
        seen.get_by_text("You may not do that").wait_for()
        [(method, path, body)] = asked
        assert (method, body) == ("PATCH", {"new_state": "success"})
        assert path.startswith("api/v2/dags/brayns_session/dagRuns/") and path.endswith("/taskInstances/keep")
        seen.keyboard.press("Escape")
        seen.get_by_role("dialog").wait_for(state="detached")


def ending(stored: Stored, number: int, minutes: float, state: str | None = "success", **told: Any) -> None:
    """A session that may be given more time, and ends in so many minutes.

    :param told: what the task that extends it tells; what holds the session tells under `held`.
    """
    run = stored.run(run_id=f"manual__2026-11-27T10:{number:02d}:00+00:00")
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    held = {"allocation": booking(number)["name"], "until": until, **told.pop("held", {})}
    tunnel = f"ssh -N -L 5000:n{number}:5000 cave"
    stored.task(run, "brayns", "success", allocation=booking(number), services=[service(number)], brayns_tunnel=tunnel)
    stored.task(run, "keep", "deferred", brayns_held=held)
    stored.extension(run, state, number, **told)


def test_a_session_that_ends_soon_is_warned_of_and_extended_by_clearing_a_task(
    browser: Any, address: str, stored: Stored
) -> None:
    ending(stored, 1, 9)
    ending(stored, 2, 40)
    asked: list[tuple[str, str, Any]] = []
    status, detail = 409, "AirflowClearRunningTaskException"

    def answer(route: Any) -> None:
        request = route.request
        asked.append((request.method, request.url.removeprefix(address), request.post_data_json))
        route.fulfill(status=status, content_type="application/json", body=json.dumps({"detail": detail}))

    with seen_with(token_of("user"), browser, address, clearTaskInstances=answer) as seen:
        seen.get_by_text("This session ends at").wait_for()
        assert seen.get_by_text("This session ends at").count() == 1, "forty minutes are not soon"
        picture(seen, "ends-soon")
        warning = seen.locator(".note.warn").get_by_role("button", name="Extend…")
        warning.click()
        seen.get_by_text("It lasts 60 minutes from now on.").wait_for()
        picture(seen, "extend-confirm")
        assert asked == []
        seen.get_by_role("button", name="Extend", exact=True).click()
        seen.get_by_text("It is being asked for already").wait_for()
        status, detail = 200, ""
        seen.get_by_role("button", name="Extend", exact=True).click()
        seen.get_by_role("dialog").wait_for(state="detached")
    body = {"dry_run": False, "dag_run_id": "manual__2026-11-27T10:01:00+00:00", "task_ids": ["extend"],
            "only_failed": False, "reset_dag_runs": False, "prevent_running_task": True}  # fmt: skip
    assert asked == [("POST", "api/v2/dags/brayns_session/clearTaskInstances", body)] * 2


def test_what_came_of_an_extension_is_told(browser: Any, address: str, stored: Stored) -> None:
    pending = {"1099": {"state": "pending", "reason": "Priority"}}
    running = {"1098": {"state": "running", "nodes": ["n9"], "services": 1, "listening": 1}}
    refused = {"how": "follow_on", "why": f"Access/permission denied {HOSTILE}"}
    ending(stored, 1, 60, how="raised")
    ending(stored, 2, 60, how="room")
    ending(stored, 3, 9, state=None, how="")
    ending(stored, 4, 9, state="failed")
    ending(stored, 5, 9, how="refused", why="no such account")
    ending(stored, 6, 9, **refused, held={"until": None, "following": pending, "services": []})
    ready = {"following": running, "services": [service(9, job_id="1098")]}
    ending(stored, 7, 60, **refused, held=ready)
    ending(stored, 8, 9, **refused, held={**ready, "ended": ["1008"]})
    with seen_with(token_of("user"), browser, address) as seen:
        for number, words in (
            (1, "Extended: the time limit of its job was raised."),
            (2, "Extended: its job has the time."),
            (3, "More time is being asked for."),
            (4, "More time could not be asked for"),
            (5, "It was not extended (no such account)."),
            (
                6,
                "(Access/permission denied <script>alert(1)</script>). Job 1099 follows on: queued. Other jobs come first.",
            ),
            (7, "Job 1098 follows on, and is ready."),
        ):
            seen.locator("li.card", has_text=f"10:0{number}:00").get_by_text(words).wait_for()
        warned = seen.locator("li.card", has_text="This session ends at").all_inner_texts()
        assert [number for number in range(1, 9) if any(f"10:0{number}:00" in text for text in warned)] == [3, 4, 5, 8]
        assert seen.locator(".brayns script").count() == 0
        assert seen.locator("li.card", has_text="10:07").locator(".endpoint").all_inner_texts() == [
            "n7:5000",
            "n9:5000",
        ]
        assert seen.locator("li.card", has_text="10:08").locator(".endpoint").all_inner_texts() == ["n9:5000"]
        assert (
            seen.locator("li.card", has_text="10:03").get_by_role("button", name="Being extended").first.is_disabled()
        )
        picture(seen, "extended")
        seen.locator("li.card", has_text="10:06").scroll_into_view_if_needed()
        picture(seen, "follows-on")


def test_whoever_may_only_look_is_warned_and_cannot_extend(browser: Any, address: str, stored: Stored) -> None:
    ending(stored, 1, 9)
    with seen_with(token_of("viewer"), browser, address) as seen:
        seen.get_by_text("This session ends at").wait_for()
        assert seen.get_by_role("button", name="Extend…").count() == 1
        assert seen.get_by_role("button", name="Extend…").is_disabled()
        picture(seen, "ends-soon-viewer")


def test_the_log_of_a_service_is_followed_in_the_page(browser: Any, address: str, stored: Stored) -> None:
    """From Airflow's own API of the log of the task that watches it, on from where it was read last."""
    ending(stored, 1, 60)
    asked: list[str] = []
    first = [{"event": "[n1 brayns1] Its start and its warnings are shown here"}, {"event": "::group::[n1 brayns1] 2 lines"},
             {"event": f"[n1 brayns1] {HOSTILE} \x1b[31m"}, {"event": "[n2 brayns1] of another node"}, {"event": "Job 7: running"}, {"no": 1}]  # fmt: skip
    more = [{"event": f"[n1 brayns1] line {number}"} for number in range(400)]
    told = [{"content": first, "continuation_token": "a b"}, {"content": more, "continuation_token": "c"}]

    def answer(route: Any) -> None:
        asked.append(route.request.url.removeprefix(address))
        body = told[min(len(asked), 2) - 1] if len(asked) < 3 else {"content": [{"event": "[n1 brayns1] the last"}]}
        route.fulfill(content_type="application/json", body=json.dumps(body))

    def task(route: Any) -> None:
        route.fulfill(content_type="application/json", body=json.dumps({"try_number": 2}))

    with seen_with(token_of("user"), browser, address, **{"taskInstances/keep": task, "logs/2?*": answer}) as seen:
        log = seen.get_by_label("Log of brayns1 on n1")
        seen.locator("summary", has_text="Log").click()
        log.wait_for()
        assert asked[0].endswith("/taskInstances/keep/logs/2?map_index=-1&full_content=false")
        assert log.inner_text().splitlines()[1].startswith(HOSTILE) and "another node" not in log.inner_text()
        picture(seen, "log")
        seen.wait_for_function("() => document.querySelector('pre[aria-label^=Log]').innerText.endsWith('the last')")
        assert asked[1].endswith("&token=a%20b") and len(log.inner_text().splitlines()) == 300, "bounded"
        seen.wait_for_timeout(6000)  # one look's time: that nothing more is asked can only be waited for
        assert len(asked) == 3, "its end was told"


def test_a_log_that_may_not_be_read_is_said(browser: Any, address: str, stored: Stored) -> None:
    ending(stored, 1, 60)

    def refuse(route: Any) -> None:
        route.fulfill(status=403, content_type="application/json", body='{"detail": "Forbidden"}')

    with seen_with(token_of("user"), browser, address, **{"taskInstances/**": refuse}) as seen:
        seen.locator("summary", has_text="Log").click()
        seen.get_by_text("You may not read the logs of its tasks.").wait_for()
        picture(seen, "log-refused")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, "application/json", "You are not logged in any more."),
        (403, "application/json", "You are not logged in any more."),
        (200, "text/html", "has no part of airflow-brayns"),
        (500, "text/plain", "Airflow answered 500. It is tried again by itself."),
    ],
)
def test_what_is_wrong_is_said_on_the_page(
    browser: Any, address: str, stored: Stored, status: int, kind: str, words: str
) -> None:
    def answer(route: Any) -> None:
        route.fulfill(status=status, content_type=kind, body="{}")

    with seen_with(token_of("viewer"), browser, address, **{"brayns/state": answer}) as seen:
        seen.get_by_text(words).wait_for()
        picture(seen, f"wrong-{status}")


def test_a_server_that_does_not_answer_is_told_of_and_heard_again(browser: Any, address: str, stored: Stored) -> None:
    stored.session(number=4)
    with seen_with(token_of("viewer"), browser, address) as seen:
        seen.locator(".endpoint").wait_for()
        seen.route("**/brayns/state", lambda route: route.abort())
        seen.get_by_text("What is shown was heard").wait_for()
        assert seen.locator(".endpoint").is_visible()
        picture(seen, "stale")
        seen.unroute("**/brayns/state")
        seen.get_by_text("does not answer").wait_for(state="detached")


def test_nothing_is_asked_while_the_tab_is_hidden(browser: Any, address: str, stored: Stored) -> None:
    asked: list[str] = []
    turn = """hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
                          document.dispatchEvent(new Event('visibilitychange')) }"""
    with seen_with(token_of("viewer"), browser, address) as seen:
        seen.get_by_text("Services (").wait_for()
        seen.on("request", lambda request: asked.append(request.url) if "brayns/state" in request.url else None)
        until(lambda: asked or seen.wait_for_timeout(100), 60)
        seen.evaluate(turn, True)
        number = len(asked)
        seen.wait_for_timeout(11_000)  # two looks' time: that nothing comes can only be waited for
        assert len(asked) == number
        seen.evaluate(turn, False)
        until(lambda: len(asked) > number or seen.wait_for_timeout(100), 60)
