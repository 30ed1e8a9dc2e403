# SPDX-License-Identifier: Apache-2.0
"""
Every error of this provider, in one tree.

The tree answers the one question a retry asks. ``BflPermanentError`` and what derives from it also derive from
``AirflowFailException``: Airflow stops retrying, because no retry cures them. Everything else is retried as the
task's own ``retries`` say, and a retry never pays for a generation that was already submitted.

Each docstring says when the error is raised, whether BFL bills for it, and whether a retry helps. Every class can
be pickled and named by its dotted path, for use in retry policies and callbacks.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class BflError(AirflowException):
    """
    Base of all errors of this provider.

    :param message: The whole story in words: what happened, to which generation, whether it was billed, what to do.
    :param generation_id: BFL's id of the generation, or None when there is none yet.
    :param model: The model (endpoint) asked for, or None when unknown where the error was raised.
    """

    def __init__(self, message: str, *, generation_id: str | None = None, model: str | None = None) -> None:
        super().__init__(message)
        self.generation_id = generation_id
        self.model = model


class BflPermanentError(BflError, AirflowFailException):
    """Base of the errors that no retry cures: the task fails at once, whatever its ``retries``."""


class BflConfigError(BflPermanentError):
    """The connection or an operator argument cannot be used as given. Nothing was sent, nothing is billed."""


class BflValidationError(BflPermanentError):
    """The request would fail, or be a paid wrong picture. Refused before it was sent; nothing is billed."""


class BflUntrustedUrlError(BflPermanentError):
    """
    A URL may not get the key, or may not be downloaded.

    Nothing was sent to it. When BFL itself returned the URL, the generation was submitted and is billed; its record
    stays, so that after the connection's ``trusted_hosts`` or ``delivery_hosts`` is corrected, clearing the task
    re-attaches without paying again.
    """


class BflAuthenticationError(BflPermanentError):
    """BFL refused the API key (401, 403, or 422 for its format). Nothing is billed."""


class BflInsufficientCreditsError(BflPermanentError):
    """The account has not enough credits (402, or fewer than ``min_credits``). Nothing is billed."""


class BflRequestRejectedError(BflPermanentError):
    """BFL refused the request itself (400, 404, 405, 413, 422, or an unexpected redirect). Nothing is billed."""


class BflModeratedError(BflPermanentError):
    """Base of both moderation outcomes. BFL does not charge for them; the same request would end the same way."""


class BflRequestModeratedError(BflModeratedError):
    """The prompt or an input image was moderated. Not billed; change the input."""


class BflContentModeratedError(BflModeratedError):
    """The generated result was moderated. Not billed; change the prompt or the seed."""


class BflStaleStateError(BflPermanentError):
    """
    The task instance's record belongs to another request and ``on_stale_state="fail"``.

    The earlier generation was billed, this request was not sent. Restore the request, or set ``force_new``.
    """


class BflObjectExistsError(BflPermanentError):
    """Another object is already stored under the final name and ``if_exists="error"``."""


class BflRefusedError(BflError):
    """
    Base of the refusals that a later POST may find lifted. Nothing is billed; a retry submits.

    :param repeatable: Whether the POST may be repeated inside the same attempt, because BFL cannot have accepted it.
    :param retry_after: Seconds BFL asked to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        generation_id: str | None = None,
        model: str | None = None,
        repeatable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, model=model)
        self.repeatable = repeatable
        self.retry_after = retry_after


class BflRateLimitedError(BflRefusedError):
    """The account's active tasks stayed at their limit for ``max_queue_wait`` (429). A retry queues again."""


class BflServiceError(BflRefusedError):
    """BFL could not be reached, or refused the request with a server error (500, 503)."""


class BflAmbiguousSubmitError(BflError):
    """
    The POST was sent and its answer was lost: BFL may have accepted and billed it.

    A retry applies ``on_ambiguous_submit``: ``"resubmit"`` submits again and marks the result
    ``possibly_billed_twice``, ``"fail"`` raises ``BflUnresolvedSubmitError``.
    """


class BflUnresolvedSubmitError(BflAmbiguousSubmitError, BflPermanentError):
    """An ambiguous submit under ``on_ambiguous_submit="fail"``. Check BFL's dashboard, then ``force_new``."""


class BflPollError(BflError):
    """Polling failed five times in a row. The record stays; a retry re-attaches at no cost."""


class BflTimeoutError(BflError):
    """The generation was not finished at the deadline. The record stays; a retry re-attaches at no cost."""


class BflTaskNotFoundError(BflError):
    """
    The polling host does not know the task, after the grace that follows a submit.

    BFL has forgotten the task, or the polling URL is not the one it returned. A retry asks again at no cost and
    submits nothing; ``force_new`` generates (and pays) anew.
    """


class BflGenerationFailedError(BflError):
    """BFL reports that the generation failed. It does not say whether that is billed; a retry submits a new one."""


class BflResultExpiredError(BflError):
    """
    The signed URL had expired and asking again gave no valid one.

    The generation was billed. A retry asks BFL again at no cost; nothing is generated anew unless ``force_new``.
    """


class BflDownloadError(BflError):
    """The result could not be fetched whole. It was billed; a retry fetches it again without generating."""


class BflResultTooLargeError(BflDownloadError, BflPermanentError):
    """The result is larger than is accepted. It was billed; it would be as large the next time."""


class BflStorageError(BflError):
    """The result could not be stored. It was billed; a retry fetches and stores it again without generating."""


class BflJournalError(BflError):
    """The record of the task instance could not be read or written. Without it nothing is submitted; retry."""


class BflBudgetError(BflPermanentError):
    """The next POST of a batch could pass its ``max_cost``. What was in flight was collected; raise it to go on."""


class BflBatchIncompleteError(BflError):
    """Some items of a batch are not done. A retry goes on with them; what is landed stays and is not paid again."""


class BflBatchFailedError(BflPermanentError):
    """More items of a batch ended without a result than ``fail_on`` allows, and no retry can change that."""


class BflBatchTakenOverError(BflPermanentError):
    """A later attempt of the same task goes on with the batch; this one submitted nothing more and stepped back."""
