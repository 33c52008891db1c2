"""The retrieval benchmark computes what it claims."""

import math

import pytest

from bench.retrieval.costs import Costs, Cpu
from bench.retrieval.quality import Quality
from bench.retrieval.report import Report
from bench.retrieval.sets import CARRIED, load, ndcg, recall


@pytest.mark.spec("SEARCH-26")
def test_gain_is_by_grade_and_place() -> None:
    grades = {"a": 3, "b": 2, "c": 1}

    assert ndcg(["a", "b", "c"], grades) == 1
    assert ndcg(["x", "y"], grades) == 0
    best = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["b", "x", "a"], grades) == pytest.approx((2 + 3 / 2) / best)
    assert ndcg(["x"] * 10 + ["a"], grades) == 0


@pytest.mark.spec("SEARCH-26")
def test_recall_is_the_share_that_was_found() -> None:
    assert recall([1, 2, 3, 9], [1, 2, 3, 4]) == 0.75
    assert recall([], [1]) == 0


@pytest.mark.spec("SEARCH-26")
@pytest.mark.parametrize("name", ["xquad-en", "xquad-de"])
def test_the_sets_that_are_carried_are_whole(name: str) -> None:
    judged = load(CARRIED / name)

    assert (len(judged.documents), len(judged.questions)) == (240, 1_190)
    numbers = {number for number, _, _ in judged.documents}
    assert all(set(grades) <= numbers for grades in judged.grades.values())
    assert len(judged.some(100)) == 100


@pytest.mark.spec("SEARCH-26")
@pytest.mark.parametrize(("hybrid", "words", "is_met"), [(0.41, 0.36, True), (0.39, 0.36, False), (0.41, 0.42, False)])
def test_a_goal_is_met_or_missed(hybrid: float, words: float, is_met: bool) -> None:
    found = Quality("cranfield", 1_400, 2_000, 225, hybrid, words, 0.3)
    quick = Costs(1, [3.0], [2.0], [Cpu(20, 5, 9), Cpu(10, 5, 9), Cpu(9, 5, 9)], 1.0)

    report = Report({"date": "today"}, [("a model", found)], quick)

    assert report.is_met == is_met
    assert ("**no**" in report.as_markdown()) != is_met
    assert "1.50 times" in report.as_markdown()
