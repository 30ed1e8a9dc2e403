# SPDX-License-Identifier: Apache-2.0
"""``@task.bfl``: a function says what to generate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_bfl.exceptions import BflConfigError, BflValidationError
from airflow_provider_bfl.operators.generation import BflGenerationOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class _BflDecoratedOperator(DecoratedOperator, BflGenerationOperator):
    """
    Generate what a function returns: a prompt, or a dict of request fields in BFL's own names.

    All of :class:`~airflow_provider_bfl.operators.generation.BflGenerationOperator` holds, with its arguments but
    ``prompt``. Fields of the dict win over those of ``parameters``.

    What the function returned is part of the task's record, so a retry or a resume goes on with the same request and
    the function is called once; only a clear calls it again. A request with a ``webhook_secret``, or of more than
    32 KB, is not kept, and with ``[bfl] record_prompts`` off none is: then every retry and resume calls the function,
    which has to return the same again. Text it returns is not a template: it may come from anywhere.

    :param python_callable: The function; it may take anything of the context.
    :param op_args: Positional arguments of the function. Templated.
    :param op_kwargs: Keyword arguments of the function. Templated.
    :raises BflConfigError: ``prompt`` is given as an argument.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *BflGenerationOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **BflGenerationOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.bfl"
    keeps_request = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("prompt") is not None:
            raise BflConfigError("@task.bfl takes no prompt: the function returns it.")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function unless the record has its answer, then submit or re-attach, wait and land as asked."""
        return BflGenerationOperator.execute(self, context)

    def request_for(self, context: Context, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the kept request, or what the function returns now."""
        from airflow_provider_bfl.operators.request import build_request

        if kept is not None:
            return build_request(None, kept)
        returned = self._call(context)
        if isinstance(returned, str):
            return build_request(returned, self.parameters)
        if not isinstance(returned, Mapping):
            raise BflValidationError(
                f"The function of {self.task_id} returned a {type(returned).__name__}; return a prompt, or a dict of "
                "BFL's field names. Nothing was sent.",
                model=self.model,
            )
        return build_request(None, {**build_request(None, self.parameters), **returned})

    def _call(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        return self.python_callable(*self.op_args, **kwargs)


def bfl_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Turn a function into a task that generates what it returns; also ``@task.bfl``.

    :param python_callable: The function; None for a decorator with arguments.
    :param kwargs: Arguments of :class:`~airflow_provider_bfl.operators.generation.BflGenerationOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_BflDecoratedOperator, **kwargs
    )
