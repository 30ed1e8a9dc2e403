# SPDX-License-Identifier: Apache-2.0
"""The grid itself: faults and what they lead to."""

from __future__ import annotations

from typing import Any

from tests.faults.plants import Plant, connection_refused, database_away, kill, storage_failure
from tests.faults.world import Cell, Row


def landed(tries: str = "1", *, posts: int = 1, reattached: bool = False, twice: bool = False) -> Cell:
    """Return the outcome of a run whose result has landed; tries of each task, separated by blanks."""
    return Cell(posts, tuple(map(int, tries.split())), reattached=reattached, twice=twice)


def failed(error: str, says: str, tries: str = "1", *, posts: int = 1) -> Cell:
    """Return the outcome of a run that ended with an error."""
    return Cell(posts, tuple(map(int, tries.split())), error, says)


def deferrable(cell: Cell) -> Any:
    """Return the cells of what can only happen with a triggerer."""
    return {"deferrable": cell}


#: As if nothing had happened.
ONE, THREE = landed("1"), landed("1 1 1")
ONE_AGAIN, ONE_DEFERRED = landed("2", reattached=True), deferrable(ONE)
RESUBMIT, RESUBMIT_THREE = landed("2"), landed("2 1 1")
DOUBT, DOUBT_THREE = landed("2", posts=2, twice=True), landed("2 1 1", posts=2, twice=True)
WAIT_AGAIN, STORE_AGAIN = landed("1 2 1"), landed("1 1 2")

CUT = {"on": "delivery", "cut_after": 0.5}
LOST = {"on": "submit", "accept": True, "drop": True}
ERROR_PAGE = "<html>Bad gateway</html>"
NO_DETAIL = ""
REFUSAL = {"detail": "Service is overloaded, try again"}
STUCK = {"on": "task", "stuck": True}


def _status(status: int, **effects: Any) -> dict[str, Any]:
    return {"on": "submit", "status": status, **effects}


REFUSED = _status(503, body=REFUSAL)

KILLS = (
    Row("before the intent is written", RESUBMIT, RESUBMIT_THREE, plants=(kill("before the intent"),)),
    Row(
        "after the intent, before the POST",
        landed("2", twice=True),
        landed("2 1 1", twice=True),
        plants=(kill("after the intent"),),
    ),
    Row("after the POST, before its record", DOUBT, DOUBT_THREE, plants=(kill("before the record"),)),
    Row(
        "the same in two attempts",
        landed("3", posts=3, twice=True),
        landed("3 1 1", posts=3, twice=True),
        plants=(kill("before the record", times=2),),
    ),
    Row(
        "the same, on_ambiguous_submit='fail'",
        failed("BflUnresolvedSubmitError", "may have accepted and billed", "2"),
        failed("BflUnresolvedSubmitError", "may have accepted and billed", "2 0 0"),
        plants=(kill("before the record"),),
        arguments={1: {"on_ambiguous_submit": "fail"}},
    ),
    Row(
        "after the record",
        ONE_AGAIN,
        landed("2 1 1", reattached=True),
        plants=(kill("after the record"),),
    ),
    Row("while the worker polls", ONE_AGAIN, WAIT_AGAIN, plants=(kill("worker polls"),)),
    Row("after the download", ONE_AGAIN, STORE_AGAIN, plants=(kill("after the download"),)),
    Row("after the upload, before the sidecar", ONE_AGAIN, STORE_AGAIN, plants=(kill("after the upload"),)),
    Row(
        "before the final XCom",
        ONE_AGAIN,
        landed("2 1 1", reattached=True),
        plants=(kill("before the final XCom"),),
    ),
    Row(
        "before the final XCom of the transfer",
        None,
        STORE_AGAIN,
        plants=(kill("before the final XCom of the transfer"),),
    ),
)

TRIGGERER = (
    Row("killed while it polls", ONE_DEFERRED, deferrable(THREE), plants=(kill("triggerer polls"),)),
    Row(
        "killed three times while it polls", ONE_DEFERRED, deferrable(THREE), plants=(kill("triggerer polls", times=3),)
    ),
    Row(
        "killed, and back after the deadline; the generation is ready",
        ONE_DEFERRED,
        deferrable(THREE),
        plants=(kill("triggerer polls"),),
        waiting={"timeout": 0.6},
        triggerer="late",
    ),
    Row(
        "killed, and back after the deadline; the generation is not ready (retries=0)",
        deferrable(failed("BflTimeoutError", "billed once")),
        deferrable(failed("BflTimeoutError", "billed once", "1 1 0")),
        bfl=(STUCK,),
        plants=(kill("triggerer polls"),),
        waiting={"timeout": 0.6},
        triggerer="late",
        retries=0,
    ),
    Row("two run the same trigger", ONE_DEFERRED, deferrable(THREE), triggerer="two at once"),
    Row(
        "cannot ask at all",
        ONE_DEFERRED,
        deferrable(THREE),
        plants=(Plant("triggerer polls", lambda: RuntimeError("no route"), times=None),),
    ),
    Row(
        "resumes with the event of another generation",
        ONE_DEFERRED,
        deferrable(THREE),
        event={"id": "another", "status": "Error"},
    ),
    Row(
        "a retry resumes with the old event (Airflow 3.0, 3.1)",
        deferrable(landed("2")),
        deferrable(WAIT_AGAIN),
        plants=(kill("worker polls"),),
        retry_resumes=True,
    ),
)

SUBMIT = (
    Row("the answer is lost, BFL accepted", DOUBT, DOUBT_THREE, bfl=(LOST,)),
    Row(
        "the answer is lost, on_ambiguous_submit='fail'",
        failed("BflUnresolvedSubmitError", "may have accepted and billed", "2"),
        failed("BflUnresolvedSubmitError", "may have accepted and billed", "2 0 0"),
        bfl=(LOST,),
        arguments={1: {"on_ambiguous_submit": "fail"}},
    ),
    Row(
        "the answer is later than the timeout, BFL accepted",
        DOUBT,
        DOUBT_THREE,
        bfl=({"on": "submit", "accept": True, "delay_seconds": 1.5},),
        read_timeout=0.5,
    ),
    Row("200 that cannot be read, BFL accepted", DOUBT, DOUBT_THREE, bfl=(_status(200, accept=True, body=ERROR_PAGE),)),
    Row("502, BFL accepted", DOUBT, DOUBT_THREE, bfl=(_status(502, accept=True, body=ERROR_PAGE),)),
    Row("504, BFL accepted", DOUBT, DOUBT_THREE, bfl=(_status(504, accept=True, body=ERROR_PAGE),)),
    Row(
        "502, BFL did not accept",
        landed("2", twice=True),
        landed("2 1 1", twice=True),
        bfl=(_status(502, body=ERROR_PAGE),),
    ),
    Row("500", RESUBMIT, RESUBMIT_THREE, bfl=(_status(500),)),
    Row("503 with a refusal, twice", ONE, THREE, bfl=(_status(503, body=REFUSAL, times=2),)),
    Row(
        "503 with a refusal, for a whole attempt", RESUBMIT, RESUBMIT_THREE, bfl=(_status(503, body=REFUSAL, times=3),)
    ),
    Row("503 without a body", RESUBMIT, RESUBMIT_THREE, bfl=(_status(503, body=NO_DETAIL),)),
    Row("connection refused twice", ONE, THREE, plants=(connection_refused(times=2),)),
    Row("connection refused for a whole attempt", RESUBMIT, RESUBMIT_THREE, plants=(connection_refused(times=3),)),
    Row("429, twenty times", ONE, THREE, bfl=(_status(429, times=20),)),
    Row(
        "429 for longer than max_queue_wait",
        RESUBMIT,
        RESUBMIT_THREE,
        bfl=(_status(429),),
        arguments={1: {"max_queue_wait": 0}},
    ),
    Row(
        "429 for good, max_queue_wait=0",
        failed("BflRateLimitedError", "Nothing was billed", "3", posts=0),
        failed("BflRateLimitedError", "Nothing was billed", "3 0 0", posts=0),
        bfl=(_status(429, times=None),),
        arguments={1: {"max_queue_wait": 0}},
    ),
    *(
        Row(
            f"{status}",
            failed(error, "Nothing was billed", posts=0),
            failed(error, "Nothing was billed", "1 0 0", posts=0),
            bfl=(_status(status),),
        )
        for status, error in (
            (401, "BflAuthenticationError"),
            (402, "BflInsufficientCreditsError"),
            (422, "BflRequestRejectedError"),
        )
    ),
)

POLLS = (
    Row("404 at first", ONE, THREE, bfl=({"on": "task", "hidden_polls": 2},)),
    Row(
        "404 for good",
        failed("BflTaskNotFoundError", "billed once", "3"),
        failed("BflTaskNotFoundError", "billed once", "1 3 0"),
        bfl=({"on": "task", "hidden_polls": 10_000},),
    ),
    Row("500, four times", ONE, THREE, bfl=({"on": "poll", "status": 500, "body": REFUSAL, "times": 4},)),
    Row(
        "500, five times",
        {"sync": ONE_AGAIN, "deferrable": ONE},
        {"sync": WAIT_AGAIN, "deferrable": THREE},
        bfl=({"on": "poll", "status": 500, "body": REFUSAL, "times": 5},),
    ),
    Row("connection dropped, four times", ONE, THREE, bfl=({"on": "poll", "drop": True, "times": 4},)),
    Row("a 422 around a good answer", ONE, THREE, bfl=({"on": "poll", "status": 422, "times": None},)),
    Row(
        "a 422 around 'Error'",
        landed("2", posts=2),
        failed("BflGenerationFailedError", "does not say whether", "1 3 0"),
        bfl=({"on": "task", "final_status": "Error"}, {"on": "poll", "status": 422, "times": None}),
    ),
    Row(
        "a 422 around 'Request Moderated'",
        failed("BflRequestModeratedError", "does not charge"),
        failed("BflRequestModeratedError", "does not charge", "1 1 0"),
        bfl=({"on": "task", "final_status": "Request Moderated"}, {"on": "poll", "status": 422, "times": None}),
    ),
    Row(
        "'Content Moderated', then cleared",
        landed("2", posts=2),
        failed("BflContentModeratedError", "does not charge", "1 2 0"),
        bfl=({"on": "task", "final_status": "Content Moderated"},),
        clear="at the end",
    ),
    Row("an unknown status, three times", ONE, THREE, bfl=({"on": "poll", "status_body": "Dreaming", "times": 3},)),
    Row(
        "not ready at the deadline",
        ONE_AGAIN,
        WAIT_AGAIN,
        bfl=(STUCK,),
        waiting={"timeout": 0.3},
        finish_at_try=2,
    ),
)

DELIVERY = (
    Row("a slow body", ONE, THREE, bfl=({"on": "delivery", "body_bytes": 60_000, "bytes_per_second": 200_000},)),
    Row("a cut body", ONE, THREE, bfl=(CUT,)),
    Row("a cut body of no declared length", ONE, THREE, bfl=(CUT | {"framing": "close"},)),
    Row(
        "a cut body for a whole attempt",
        ONE_AGAIN,
        STORE_AGAIN,
        bfl=(CUT | {"times": 3},),
    ),
    Row("a wrong content type", ONE, THREE, bfl=({"on": "delivery", "content_type": "text/html"},)),
    Row(
        "an error page in its place",
        ONE,
        THREE,
        bfl=({"on": "delivery", "content": ERROR_PAGE.encode(), "content_type": "text/html"},),
    ),
    Row("an expired URL; asking again gives a fresh one", ONE, THREE, bfl=({"on": "delivery", "expired": True},)),
    Row(
        "an expired URL; asking again gives no fresh one",
        ONE_AGAIN,
        STORE_AGAIN,
        bfl=({"on": "delivery", "expired": True, "times": 2},),
    ),
    Row(
        "expired for good",
        failed("BflResultExpiredError", "generated and billed", "3"),
        failed("BflResultExpiredError", "generated and billed", "1 1 3"),
        bfl=({"on": "delivery", "expired": True, "times": None},),
    ),
    Row("storage fails once", ONE, THREE, plants=(storage_failure(),)),
    Row("storage fails for a whole attempt", ONE_AGAIN, STORE_AGAIN, plants=(storage_failure(times=None, tries=(1,)),)),
    Row(
        "storage fails for good",
        failed("BflStorageError", "generated and billed", "3"),
        failed("BflStorageError", "generated and billed", "1 1 3"),
        plants=(storage_failure(times=None),),
    ),
)

PEOPLE = (
    Row("cleared while deferred", deferrable(ONE_AGAIN), deferrable(WAIT_AGAIN), clear="while deferred"),
    Row(
        "cleared after a failure (retries=0)",
        ONE_AGAIN,
        STORE_AGAIN,
        plants=(storage_failure(times=None, tries=(1,)),),
        retries=0,
        clear="at the end",
    ),
    Row("cleared after success", ONE_AGAIN, landed("2 2 2", reattached=True), clear="at the end"),
    Row(
        "cleared after success with force_new",
        landed("2", posts=2),
        landed("2 2 2", posts=2),
        arguments={2: {"force_new": True}},
        clear="at the end",
    ),
    Row(
        "the same, and the forced attempt is killed",
        landed("3", posts=2, reattached=True),
        landed("3 2 2", posts=2, reattached=True),
        plants=(kill("after the record", tries=(2,)),),
        arguments={2: {"force_new": True}},
        clear="at the end",
    ),
    Row(
        "force_new on a retry after a kill",
        ONE_AGAIN,
        landed("2 1 1", reattached=True),
        plants=(kill("after the record"),),
        arguments={1: {"force_new": True}},
    ),
    Row(
        "another prompt on a retry after a kill",
        landed("2", posts=2),
        landed("2 1 1", posts=2),
        plants=(kill("after the record"),),
        arguments={2: {"prompt": "a blue fox"}},
    ),
    Row(
        "the same, on_stale_state='fail'",
        failed("BflStaleStateError", "submitted and billed", "2"),
        failed("BflStaleStateError", "submitted and billed", "2 0 0"),
        plants=(kill("after the record"),),
        arguments={1: {"on_stale_state": "fail"}, 2: {"prompt": "a blue fox"}},
    ),
    Row(
        "another prompt, cleared after success",
        landed("2", posts=2),
        landed("2 2 2", posts=2),
        arguments={2: {"prompt": "a blue fox"}},
        clear="at the end",
    ),
)

JOURNAL = (
    Row(
        "unreadable in the retry after a kill",
        landed("3", reattached=True),
        landed("3 1 1", reattached=True),
        plants=(kill("after the record"), database_away("reading the journal", times=None, tries=(2,))),
    ),
    Row(
        "unreadable on resume",
        deferrable(ONE_AGAIN),
        None,
        plants=(database_away("reading the journal", skip=1),),
    ),
    Row(
        "unwritable for a whole attempt",
        RESUBMIT,
        RESUBMIT_THREE,
        plants=(database_away("writing the journal", times=None, tries=(1,)),),
    ),
    Row("unwritable right after the POST, once", ONE, THREE, plants=(database_away("writing the record"),)),
    Row(
        "unwritable right after the POST, to the attempt's end",
        ONE,
        THREE,
        plants=(database_away("writing the record", times=None, tries=(1,)),),
    ),
)

GROUPS = {
    "A worker is killed": KILLS,
    "The triggerer": TRIGGERER,
    "The submit": SUBMIT,
    "The polls": POLLS,
    "The result and the storage": DELIVERY,
    "What people do": PEOPLE,
    "The journal": JOURNAL,
}
