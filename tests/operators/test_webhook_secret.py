# SPDX-License-Identifier: Apache-2.0
"""
OpenLineage copies an operator's ``parameters`` into its events and its masking does not reach into them.

So what is rendered there must not be the secret; ``tests/live/test_canary.py`` looks at the events themselves.
"""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest

from airflow_provider_bfl.operators.generation import BflGenerationOperator
from airflow_provider_bfl.operators.request import build_request

SECRET = "HUSHhushHUSHhush"
TEMPLATED = {"webhook_url": "https://example.com/{{ where }}", "webhook_secret": "{{ word }}"}
CONTEXT = {"where": "hook", "word": SECRET}


def rendered(parameters: Any) -> BflGenerationOperator:
    operator = BflGenerationOperator(task_id="generate", prompt="p", parameters=parameters)
    operator.render_template_fields(CONTEXT, jinja2.Environment())  # type: ignore[arg-type]
    return operator


class TestTheRenderedSecret:
    @pytest.mark.parametrize("parameters", [TEMPLATED, {"webhook_secret": SECRET}])
    def test_is_not_told_by_the_operators_arguments(self, parameters: dict[str, str]) -> None:
        told = rendered(parameters).parameters
        assert SECRET not in repr(told) + str(told) + json.dumps(told, default=str)

    def test_is_not_what_openlineage_encodes(self) -> None:
        utils = pytest.importorskip("airflow.providers.openlineage.utils.utils")
        serde = pytest.importorskip("openlineage.client.serde")
        encoded = serde.Serde.to_json(dict(utils.TaskInfo(rendered(TEMPLATED))))
        assert '"webhook_url": "https://example.com/hook"' in encoded
        assert SECRET not in encoded

    def test_is_what_bfl_gets(self) -> None:
        operator = rendered(TEMPLATED)
        assert build_request(operator.prompt, operator.parameters) == {
            "prompt": "p",
            "webhook_url": "https://example.com/hook",
            "webhook_secret": SECRET,
        }

    def test_is_hidden_in_a_mapped_task_too(self) -> None:
        operator = BflGenerationOperator(task_id="generate", prompt="p", parameters=TEMPLATED)
        # As Airflow's MappedOperator calls it on the task it has unmapped.
        operator._do_render_template_fields(
            parent=operator,
            template_fields=operator.template_fields,
            context=CONTEXT,
            jinja_env=jinja2.Environment(),
            seen_oids=set(),
        )
        assert SECRET not in repr(operator.parameters)

    @pytest.mark.parametrize("parameters", [None, {}, {"seed": 1}, {"webhook_secret": None}])
    def test_leaves_other_parameters_alone(self, parameters: dict[str, Any] | None) -> None:
        assert rendered(parameters).parameters == parameters
