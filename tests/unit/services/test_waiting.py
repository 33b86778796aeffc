"""Waiting for nodes and services: what each look tells, how long anything is waited for, and what the log says."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import Any

import pytest

from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, NotReadyInTime, ServiceFailed
from tests.support.clock import jumping_clock
from tests.support.shell import log_of, look, service
from tests.support.waiting import NAME, ago, waiting

__all__ = ["jumping_clock"]


async def soon(wait: Awaitable[Any]) -> Any:
    """Whatever hangs fails its test."""
    async with asyncio.timeout(3600):  # of a clock that jumps
        return await wait


@pytest.mark.usefixtures("jumping_clock")
class TestLooks:
    async def test_a_queue_timeout_that_has_passed_ends_the_wait_and_says_why_it_waited(self) -> None:
        queued = look(word="PENDING", reason="Priority", nodes=())
        wait, _ = waiting(queued, since=ago(61), queue_timeout=60)
        with pytest.raises(
            NotReadyInTime, match=r"^queue_timeout: raise it, .*\n +job 77 still waited after 60 s \(Priority\)"
        ) as raised:
            await soon(wait.services())
        assert raised.value.retry

    async def test_a_queue_timeout_that_has_not_passed_is_waited_for(self) -> None:
        looks = [look(word="PENDING", nodes=())] * 3 + [look()]
        wait, _ = waiting(lambda number: looks[min(number, 3)], since=ago(50), queue_timeout=60)
        [status] = await soon(wait.nodes())
        assert status.nodes == ("r1i1n0",)

    async def test_a_job_that_runs_has_no_queue_timeout_any_more(self) -> None:
        wait, _ = waiting(look(), since=ago(1000), queue_timeout=60)
        assert len(await soon(wait.nodes())) == 1

    @pytest.mark.parametrize("silent", [look(answered=False), ConnectionLost("no way there")], ids=["slurm", "login"])
    async def test_after_ten_minutes_of_silence_nobody_waits_any_more(self, silent: str | ConnectionLost) -> None:
        wait, _ = waiting(lambda _: silent)
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="has not answered for 600 s: (Unable to contact|no way there)"):
            await soon(wait.services())
        assert 600 < time.monotonic() - began < 620

    async def test_one_answer_ends_a_silence(self) -> None:
        """The next one is counted from its own beginning."""
        began = time.monotonic()

        def seen(_: int) -> str | ConnectionLost:
            passed = time.monotonic() - began
            if passed < 500 or 550 <= passed < 1000:
                return ConnectionLost("no way there")
            return look(word="PENDING", nodes=()) if passed < 1000 else look(heartbeat="2")

        wait, _ = waiting(seen)
        assert len(await soon(wait.nodes())) == 1

    async def test_a_login_that_is_refused_is_not_asked_again(self) -> None:
        wait, shell = waiting(lambda _: ConnectionLost("the login node refused the login", retry=False))
        with pytest.raises(ConnectionLost, match="refused the login"):
            await soon(wait.services())
        assert shell.commands == 1

    async def test_a_login_that_is_refused_later_ends_the_wait_too(self) -> None:
        refused = ConnectionLost("the login node refused the login", retry=False)
        wait, _ = waiting(lambda number: refused if number else look(word="PENDING", nodes=()))
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="refused the login"):
            await soon(wait.services())
        assert time.monotonic() - began < 60

    async def test_a_keeper_that_shows_no_sign_for_four_minutes_is_lost_with_its_node(self) -> None:
        wait, _ = waiting(look(heartbeat="5"))
        began = time.monotonic()
        with pytest.raises(
            AllocationLost, match="Job 77 is orphaned: it runs, but its keeper has shown no sign for 240 s"
        ):
            await soon(wait.services(["brayns1"]))
        assert 240 < time.monotonic() - began < 260

    @pytest.mark.parametrize("alive", ["beats", "suspended"])
    async def test_a_keeper_that_shows_itself_or_is_suspended_is_not_lost(self, alive: str) -> None:
        began = time.monotonic()

        def seen(number: int) -> str:
            word = "SUSPENDED" if alive == "suspended" else "RUNNING"
            beat = str(number) if alive == "beats" else "5"
            done = "the idle limit" if time.monotonic() - began > 600 else None
            return look(heartbeat=beat, word="COMPLETED" if done else word, ended=done)

        wait, _ = waiting(seen)
        with pytest.raises(
            AllocationLost, match="Job 77 ended as COMPLETED before it was done with. The keeper says: the idle limit"
        ):
            await soon(wait.services(["brayns1"]))

    @pytest.mark.parametrize("reason", ["PartitionTimeLimit", "BadConstraints", "InvalidAccount"])
    async def test_a_job_that_would_wait_for_ever_is_not_waited_for(self, reason: str) -> None:
        wait, _ = waiting(look(word="PENDING", reason=reason, nodes=()))
        with pytest.raises(BraynsError, match=f"Job 77 would wait for ever: Slurm says {reason}") as raised:
            await soon(wait.nodes())
        assert not raised.value.retry

    @pytest.mark.parametrize(
        ("reason", "final"),
        [("QOSMaxCpuPerJobLimit", False), ("AssocMaxMemPerJob", False), ("QOSMaxNodePerJobLimit", True)],
    )
    async def test_what_is_said_of_whole_nodes_is_final_only_where_it_is_of_their_number(
        self, reason: str, final: bool
    ) -> None:
        """With `exclusive` Slurm counts all that the nodes have which it has just looked at; others may have less."""
        queued = look(word="PENDING", reason=reason, nodes=())
        wait, _ = waiting(lambda number: queued if number < 4 else look(), exclusive=True)
        with pytest.raises(BraynsError, match="would wait for ever") if final else nullcontext():
            assert await soon(wait.nodes())

    @pytest.mark.parametrize(
        ("reason", "final"),
        [("PartitionDown", False), ("PartitionNodeLimit", False), ("AccountNotAllowed", False), ("QOSMaxNodePerJobLimit", False),
         ("InvalidAccount", True), ("launch failed requeued held", True)],
    )  # fmt: skip
    @pytest.mark.parametrize("known_by", ["partition", "Slurm"])
    async def test_what_is_said_of_one_of_several_partitions_is_not_final(
        self, reason: str, final: bool, known_by: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """'maint,prod', with prod busy for a moment: the job was cancelled as one that would wait for ever."""
        queued = look(word="PENDING", reason=reason, nodes=())
        named = {"partition": "maint,prod"} if known_by == "partition" else {}
        wait, shell = waiting(lambda number: queued if number < 4 else look(), **named)
        answers = shell.answers

        def answer(script: str) -> Any:
            if "\npartitions_of " in script and known_by == "Slurm":
                return "partitions maint,prod\n"
            return answers(script) if callable(answers) else answers

        shell.answers = answer
        with caplog.at_level(logging.INFO, "waiting"):
            if final:
                with pytest.raises(BraynsError, match="would wait for ever"):
                    await soon(wait.nodes())
                return
            assert await soon(wait.nodes())
        assert sum("\npartitions_of " in script for script in shell.scripts) == (known_by == "Slurm"), "once"
        assert caplog.text.count("one of its partitions (maint, prod)") == 1

    async def test_partitions_that_slurm_does_not_tell_decide_nothing(self) -> None:
        queued = look(word="PENDING", reason="PartitionDown", nodes=())
        wait, shell = waiting(lambda number: queued if number < 4 else look())
        answers = shell.answers

        def answer(script: str) -> Any:
            silent = "\npartitions_of " in script
            return "silent \n" if silent else answers(script) if callable(answers) else answers

        shell.answers = answer
        assert await soon(wait.nodes())

    async def test_a_job_that_slurm_has_forgotten_three_times_has_ended(self) -> None:
        """Once may be a controller that has just come back."""
        forgotten = look(word="")
        wait, shell = waiting(lambda number: forgotten if number in (0, 1, 3, 4) or number > 5 else look())
        with pytest.raises(AllocationLost, match="Job 77 ended before it was done with") as raised:
            await soon(wait.services(["brayns1"]))
        assert sum("\nlook_for " in script for script in shell.scripts) == 9
        assert "OUT_OF_MEMORY" in str(raised.value)
        assert "the keeper went" in str(raised.value)

    @pytest.mark.parametrize(
        ("word", "more", "told"),
        [("FAILED", {"nodes": (), "heartbeat": ""}, True), ("CANCELLED", {"nodes": (), "heartbeat": ""}, False),
         ("FAILED", {}, False), ("FAILED", {"nodes": (), "heartbeat": "", "ended": "the folder is full"}, False)],
    )  # fmt: skip
    async def test_a_state_folder_that_the_nodes_do_not_see_is_named(
        self, word: str, more: dict[str, Any], told: bool
    ) -> None:
        """'ended as FAILED', and no word of the folder."""
        wait, _ = waiting(look(word=word, **more))
        with pytest.raises(AllocationLost, match=f"Job 77 ended as {word}") as raised:
            await soon(wait.nodes())
        assert (raised.value.field == "state_dir") is told
        assert (f"left nothing in /s/{NAME}/1: its node does not see that folder" in str(raised.value)) is told

    async def test_a_folder_that_has_gone_is_lost(self) -> None:
        wait, _ = waiting(look(word="", more="gone"))
        with pytest.raises(AllocationLost, match="The folder of job 77 has gone"):
            await soon(wait.nodes())

    async def test_when_slurm_expects_it_to_start_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        queued = look(word="PENDING", reason="Resources", start="2026-11-22T12:00:00", nodes=())
        wait, _ = waiting(lambda number: queued if number < 5 else look())
        with caplog.at_level(logging.INFO, "waiting"):
            await soon(wait.nodes())
        assert caplog.messages == [
            "Job 77: pending (Resources); Slurm expects it to start at 2026-11-22T12:00:00", "Job 77: running on r1i1n0",
        ]  # fmt: skip

    @pytest.mark.parametrize("start", ["N/A", "Unknown", ""])
    async def test_what_slurm_does_not_expect_is_not_told(self, start: str, caplog: pytest.LogCaptureFixture) -> None:
        queued = look(word="PENDING", reason="Resources", start=start, nodes=())
        wait, _ = waiting(lambda number: look() if number else queued)
        with caplog.at_level(logging.INFO, "waiting"):
            await soon(wait.nodes())
        assert caplog.messages[0] == "Job 77: pending (Resources)"

    async def test_nodes_of_all_parts_are_awaited_and_come_in_their_order(self) -> None:
        first, second = NAME, NAME[:-1] + "1"

        def seen(number: int) -> str:
            pending = number < 6
            one = look(first, nodes=() if pending else ("a1",), word="PENDING" if pending else "RUNNING")
            return look(second, nodes=("b1",)).replace("answered\n", "") + one

        wait, _ = waiting(seen, first, second)
        assert [status.nodes for status in await soon(wait.nodes())] == [("a1",), ("b1",)]

    async def test_a_service_that_ends_before_it_is_usable_fails_with_its_last_lines(self) -> None:
        ended = look(services=[service(exited="3 the service ended with exit code 3")]) + log_of("no licence\n")
        wait, _ = waiting(ended)
        with pytest.raises(ServiceFailed, match="the service ended with exit code 3") as raised:
            await soon(wait.services())
        assert re.search(r"Last lines of brayns1 on r1i1n0:\s+no licence$", str(raised.value))
        assert raised.value.retry

    @pytest.mark.parametrize(("exit_code", "retry"), [(95, False), (96, False), (97, False), (98, False), (126, False), (127, False), (1, True), (137, True)])  # fmt: skip
    async def test_what_no_retry_mends_is_not_retried(self, exit_code: int, retry: bool) -> None:
        """A program that is not there, or an image that cannot be run, is not there the next time either."""
        wait, _ = waiting(look(services=[service(exited=f"{exit_code} it ended")]))
        with pytest.raises(ServiceFailed) as raised:
            await soon(wait.services())
        assert raised.value.retry is retry

    @pytest.mark.parametrize("line", ["Unrecognized option '--x'", "Unknown keyword argument 'x'"])
    async def test_an_option_that_it_does_not_know_is_not_retried(self, line: str) -> None:
        wait, _ = waiting(look(services=[service(exited="1 it ended")]) + log_of(f"{line}\n"))
        with pytest.raises(ServiceFailed) as raised:
            await soon(wait.services())
        assert not raised.value.retry

    async def test_a_service_that_never_listens_runs_out_of_its_start_timeout(self) -> None:
        loading = look(services=[service()]) + log_of("still at it\n")
        wait, _ = waiting(loading, start_timeout=0.001)
        with pytest.raises(
            NotReadyInTime, match=r"^start_timeout: see in .*\n +brayns1 on r1i1n0 was not usable 0 s after"
        ) as raised:
            await soon(wait.services())
        assert "still at it" in str(raised.value)

    async def test_a_service_that_nobody_started_is_not_waited_for_for_ever(self) -> None:
        wait, _ = waiting(look(services=[service()]), start_timeout=0.001)
        with pytest.raises(
            NotReadyInTime, match=r"^started: start one .*\n +no such service is in the allocation"
        ) as raised:
            await soon(wait.services(["other"]))
        assert not raised.value.retry

    async def test_what_was_found_before_is_still_there(self) -> None:
        wait, shell = waiting(look(services=[service(port=5000), service("brayns2")]))
        found = await soon(wait.still_there([{"job_id": "77", "service": "brayns1"}]))
        assert [one.name for _, one in found] == ["brayns1"]
        assert shell.commands == 1
        assert await soon(wait.still_there([{"job_id": "78", "service": "brayns1"}])) == []

    async def test_what_was_found_before_and_is_listed_late_is_looked_for(self) -> None:
        """It was handed on without a look."""
        looks = [look(), look(), look(services=[service(exited="9 it ended")])]
        wait, _ = waiting(lambda number: looks[min(number, 2)])
        with pytest.raises(ServiceFailed, match="it ended"):
            await soon(wait.still_there([{"job_id": "77", "service": "brayns1"}]))

    async def test_one_that_is_not_listed_hides_no_other_ones_end(self) -> None:
        wait, _ = waiting(look(services=[service("brayns2", exited="9 it ended")]))
        with pytest.raises(ServiceFailed, match="it ended"):
            await soon(wait.still_there([{"job_id": "77", "service": f"brayns{number}"} for number in (1, 2)]))

    @pytest.mark.parametrize(
        ("exited", "why"),
        [("0 stopped", "brayns1 on r1i1n0 was stopped meanwhile"), ("9 it ended", "before it was usable: it ended")],
    )
    async def test_what_was_found_before_and_has_ended_fails(self, exited: str, why: str) -> None:
        wait, _ = waiting(look(services=[service(exited=exited)]))
        with pytest.raises(ServiceFailed, match=why):
            await soon(wait.still_there([{"job_id": "77", "service": "brayns1"}]))
