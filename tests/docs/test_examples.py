# SPDX-License-Identifier: Apache-2.0
"""The Dags that the docs show are the example Dags, which the tests run."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import EXAMPLES, PAGES, README, includes, shown_parts

#: What makes a piece of Python one of a Dag.
OF_A_DAG = re.compile(r"\b\w*(?:Operator|Sensor|Dag|DAG)(?:\.partial)?\(|@dag\b|@task\b|\.expand\(")


def python_in_markdown(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def python_in_rst(text: str) -> list[str]:
    """Return the blocks that are Python or do not say what they are."""
    blocks = re.compile(
        r"^( *)(?:\.\. (?:code-block|code|sourcecode):: *(?P<kind>\w*)|[^.\n][^\n]*::)\n(?P<body>(?:\n|\1 +[^\n]*\n)+)",
        re.MULTILINE,
    )
    return [found["body"] for found in blocks.finditer(text + "\n") if found["kind"] in (None, "", "python")]


class TestTheExampleDags:
    def test_are_each_shown_on_a_page(self) -> None:
        shown = {path for _, path, _ in includes()}
        assert {path.name for path in EXAMPLES.glob("*.py") if path not in shown} == set()

    def test_are_the_only_files_that_pages_include(self) -> None:
        assert {path.parent for _, path, _ in includes()} == {EXAMPLES}


class TestPythonInThePages:
    @pytest.mark.parametrize("page", PAGES)
    def test_is_never_a_pasted_dag(self, page: str) -> None:
        assert [block for block in python_in_rst(PAGES[page]) if OF_A_DAG.search(block)] == []

    def test_in_the_readme_is_an_example_dag_word_for_word(self) -> None:
        parts = {part: path.read_text() for path in EXAMPLES.glob("*.py") for part in shown_parts(path)}
        blocks = python_in_markdown(README)
        assert blocks
        for block in blocks:
            lines = block.strip().splitlines()
            imports = [line for line in lines if line.startswith("from ")]
            code = "\n".join(lines[len(imports) :]).strip()
            assert code in parts
            assert set(imports) <= set(parts[code].splitlines())
