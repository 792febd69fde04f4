"""docs/results.md is of today's records, and its links lead to them."""

import re

import pytest

from common.leaderboard.results_page import PAGE, SECTIONS, Section, page
from common.records.record import ResultRecord


def test_the_page_is_of_today() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(), "docs/results.md is out of date: run `python -m common.leaderboard.results_page`"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_link_leads_to_the_record_of_its_number(section: Section) -> None:
    text = PAGE.read_text(encoding="utf-8").split(f"## {section.title}\n")[1].split("\n## ")[0]
    head, _, *rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]
    linked = 0
    for row in rows:
        for column, cell in zip(head, row, strict=True):
            match = re.fullmatch(r"[*_]*\[([\d.]+)\]\((.+)#L(\d+)\)[*_]*", cell)
            if match:
                benchmark, _, metric = column.split()
                record = ResultRecord.read_lines(PAGE.parent / match[2])[int(match[3]) - 1]
                assert (record.benchmark, f"{100 * record.metrics[metric]:.1f}") == (benchmark, match[1])
                assert row[0].startswith(f"{record.method} {record.variant}".strip())
                linked += 1
    assert linked
