# SPDX-License-Identifier: Apache-2.0
"""What the user asked for, checked before anything is sent."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from airflow_provider_bfl.api.catalogue import closest_model, find_problems, get_model
from airflow_provider_bfl.arguments import Validation
from airflow_provider_bfl.exceptions import BflConfigError, BflValidationError

log = logging.getLogger(__name__)

#: Airflow advises 64 KB at most for what its task state store keeps.
_MAX_KEPT_CHARS = 32 * 1024

_FORMAT_OF_SUFFIX = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


class HiddenSecret:
    """
    A rendered secret that shows itself to nobody who prints, serializes or encodes the operator's arguments.

    OpenLineage copies an operator's ``parameters`` into its events past Airflow's masking.
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "'***'"

    def reveal(self) -> str:
        """Return the secret itself, for the request."""
        return self._value


def hide_secret(parameters: Any) -> Any:
    """Return rendered ``parameters`` with a ``webhook_secret`` in them hidden."""
    if not isinstance(parameters, Mapping) or not isinstance(secret := parameters.get("webhook_secret"), str):
        return parameters
    return {**parameters, "webhook_secret": HiddenSecret(secret)}


def build_request(prompt: str | None, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return the request in BFL's field names.

    :raises BflValidationError: ``parameters`` is no mapping or holds what JSON cannot, the prompt is given twice, or a
        template left it blank.
    """
    if parameters is not None and not isinstance(parameters, Mapping):
        raise BflValidationError(
            f"parameters is a {type(parameters).__name__}; give a dict of BFL's field names. Nothing was sent."
        )
    request = dict(parameters or {})
    if isinstance(secret := request.get("webhook_secret"), HiddenSecret):
        request["webhook_secret"] = secret.reveal()
    if prompt is not None:
        if "prompt" in request:
            raise BflValidationError("prompt is given twice, as argument and in parameters. Nothing was sent.")
        if not isinstance(prompt, str):
            raise BflValidationError(f"prompt is a {type(prompt).__name__}, not text. Nothing was sent.")
        request["prompt"] = prompt
    text = request.get("prompt")
    if isinstance(text, str) and prompt is not None and not text.strip():
        raise BflValidationError("The prompt is blank; a template may have rendered to nothing. Nothing was sent.")
    try:
        json.dumps(request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BflValidationError(f"parameters hold what JSON cannot: {error}. Nothing was sent.") from None
    return request


def kept_request(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return the request as a record may keep it, or None where it may not.

    A record holds no secret, no prompt unless ``[bfl] record_prompts`` allows one, and nothing large.
    """
    from airflow.providers.common.compat.sdk import conf

    if "webhook_secret" in request or len(json.dumps(request)) > _MAX_KEPT_CHARS:
        return None
    return dict(request) if conf.getboolean("bfl", "record_prompts", fallback=True) else None


def validate_request(model: str, request: Mapping[str, Any], *, validation: Validation) -> None:
    """
    Judge a request by the catalogue, all its problems at once.

    :param validation: ``error`` refuses, ``warn`` logs, ``off`` does neither.
    :raises BflValidationError: the request has problems and ``validation`` is ``error``.
    """
    if validation == "off":
        return
    if not get_model(model).known:
        nearest = closest_model(model)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        log.warning("The model %r is not in this version's catalogue; its fields are not checked.%s", model, hint)
        return
    problems = find_problems(model, request)
    if not problems:
        return
    listed = " ".join(f"({number}) {problem.message}" for number, problem in enumerate(problems, start=1))
    if validation == "warn":
        log.warning("The request to %s has problems and is sent all the same: %s", model, listed)
        return
    raise BflValidationError(
        f"The request to {model} was not sent, nothing was billed: {listed} "
        "BFL would ignore or refuse this; validation='warn' sends it anyway.",
        model=model,
    )


def check_webhook(request: Mapping[str, Any], *, wait_for_completion: bool) -> None:
    """
    Refuse a webhook where its answer, which has no polling URL, could not be waited for.

    :raises BflConfigError: ``webhook_url`` together with ``wait_for_completion``.
    """
    if request.get("webhook_url") and wait_for_completion:
        raise BflConfigError(
            "webhook_url makes BFL answer without a polling URL, so the task cannot wait for the result. Remove it or "
            "set wait_for_completion=False. Nothing was sent."
        )


def output_format_of(model: str, request: Mapping[str, Any]) -> str | None:
    """Return the format BFL will deliver, or None where neither the request nor the catalogue tells."""
    asked = request.get("output_format")
    return asked if isinstance(asked, str) else get_model(model).default_output_format


def check_suffix(destination: str, output_format: str | None) -> None:
    """
    Refuse a file name that contradicts the format BFL will deliver.

    :raises BflConfigError: say, ``cat.png`` while the model delivers jpeg.
    """
    promised = _FORMAT_OF_SUFFIX.get(PurePosixPath(destination).suffix.lower())
    if promised and output_format in _FORMAT_OF_SUFFIX.values() and promised != output_format:
        raise BflConfigError(
            f"The destination {destination} ends like {promised}, but BFL will deliver {output_format}. Set "
            f'parameters={{"output_format": "{promised}"}} or change the name. Nothing was sent.'
        )


def describe_prompt(request: Mapping[str, Any]) -> str:
    """Return the prompt as the log may have it: length and hash, or the text with ``[bfl] log_prompts``."""
    from airflow.providers.common.compat.sdk import conf

    prompt = request.get("prompt")
    if not isinstance(prompt, str):
        return "no prompt"
    if conf.getboolean("bfl", "log_prompts", fallback=False):
        return f"prompt {prompt!r}"
    return f"prompt of {len(prompt)} characters, sha256 {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"
