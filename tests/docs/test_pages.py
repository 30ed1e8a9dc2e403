# SPDX-License-Identifier: Apache-2.0
"""Everything a page points to is there; what Sphinx would also find, found in a second."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, README, ROOT, includes

TEXTS = (README, *PAGES.values())
MARKDOWN = ("README.md", "SECURITY.md", "CHANGELOG.md")


def headings(path: Path) -> set[str]:
    """Return the anchors GitHub makes of a Markdown file's headings."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


class TestThePages:
    def test_are_each_in_one_table_of_contents(self) -> None:
        entries = re.findall(r"^   (\w+)$", PAGES["index"], re.MULTILINE)
        assert sorted(entries) == sorted(set(PAGES) - {"index"})

    @pytest.mark.parametrize("page", PAGES)
    def test_refer_to_pages_that_exist(self, page: str) -> None:
        targets = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", PAGES[page])
        assert set(targets) <= set(PAGES)

    @pytest.mark.parametrize("page", PAGES)
    def test_show_pictures_that_exist_with_words_for_who_cannot_see_them(self, page: str) -> None:
        pictures = re.findall(
            r"^ *\.\. (?:image|figure):: (\S+)\n((?:   +:\S+:[^\n]*\n)*)", PAGES[page] + "\n", re.MULTILINE
        )
        for name, options in pictures:
            assert (DOCS / name).is_file(), name
            assert ":alt: " in options, name

    def test_include_parts_of_files_that_exist(self) -> None:
        for page, path, options in includes():
            assert path.is_file(), (page, path)
            for marker in (options.get("start-after"), options.get("end-before")):
                assert marker is None or path.read_text().count(f"{marker}\n") == 1, (page, marker)

    @pytest.mark.parametrize("page", PAGES)
    def test_say_nothing_of_where_they_were_written(self, page: str) -> None:
        assert not re.search(r"/work/|/root/|\.\./shared|localhost:\d", PAGES[page])


class TestTheMarkdownFiles:
    @pytest.mark.parametrize("name", MARKDOWN)
    def test_link_to_files_and_headings_that_exist(self, name: str) -> None:
        text = (ROOT / name).read_text()
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            assert not path or (ROOT / path).exists(), target
            if anchor:
                assert anchor in headings(ROOT / (path or name)), target


class TestCommandsInThePages:
    def test_name_targets_of_the_makefile(self) -> None:
        targets = set(re.findall(r"^([a-z][a-z0-9.-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
        asked = {name for text in TEXTS for name in re.findall(r"(?:^|`)make ([a-z0-9.-]+)", text, re.MULTILINE)}
        assert asked
        assert asked <= targets

    def test_name_extras_that_exist(self) -> None:
        extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
        asked = {names for text in TEXTS for names in re.findall(r'install "[\w.-]+\[(.+?)\]"', text)}
        assert asked
        assert {name for names in asked for name in names.split(",")} <= extras
