"""The world: pure, leak-free, the same problem in every language."""

import itertools
import random
import re

import pytest

from langbridge.miniature import world
from langbridge.miniature.corpus import VERB_FORMS, careless, problem_pairs, sentence_pairs, solved_problems
from langbridge.miniature.dataset import held_out_rows, training_rows
from langbridge.miniature.grammar import LANGUAGES, grammar


def test_generation_is_pure_and_seeded():
    assert world.problem("train", 7) == world.problem("train", 7)
    assert world.problem("train", 7) != world.problem("train", 7, seed=1)
    assert world.render(world.problem("test", 3), "sw") == world.render(world.problem("test", 3), "sw")


def test_a_known_problem_stays_as_it_is():
    # Written down once from the first version: a change of the world would silently invalidate the shipped parents.
    problem = world.problem("test", 0, seed=0)
    assert world.render(problem, "en") == KNOWN["en"]
    assert world.render(problem, "sw") == KNOWN["sw"]
    assert world.solution(problem) == KNOWN["solution"]


KNOWN = {
    "en": "How many hats does Eva have in the end? Eva starts with 28 hats. On Monday Eva gives away 9 hats. "
    "What Eva wins on Friday is 6 hats. As for hats, 5 are obtained by Eva later. On Monday Eva obtains 11 hats.",
    "sw": "Eva ana kofia ngapi mwishoni? Eva ana kofia 28. Eva anagawa kofia 9 Jumatatu. Eva Ijumaa anashinda k"
    "ofia 6. Eva anapata kofia 5 baadaye. Jumatatu Eva anapata kofia 11.",
    "solution": "Eva starts with 28. 28 - 9 = 19. 19 + 6 = 25. 25 + 5 = 30. 30 + 11 = 41. The answer is 41.",
}


def test_the_test_problems_are_sealed():
    """Those that were looked at are of another seed, and none of them is asked again."""
    looked_at = {p.combination for p in world.problems("test", 400, seed=0)}
    assert not looked_at & {p.combination for p in world.problems("test", 400)}
    assert held_out_rows("en", 1)[0]["question"] == world.render(world.problem("test", 0, seed=world.SEALED), "en")


def test_splits_never_share_a_combination():
    seen = {split: {p.combination for p in world.problems(split, 400)} for split in world.SPLITS}
    for first, second in itertools.combinations(world.SPLITS, 2):
        assert not seen[first] & seen[second]


def test_parents_and_bridge_read_no_held_out_combination(monkeypatch):
    """Every whole problem that any corpus renders is of the train split, distractors included."""
    rendered: list[world.Problem] = []
    say = world.sentences

    def watched(problem, language, seed=0):
        rendered.append(problem)
        return say(problem, language, seed)

    monkeypatch.setattr(world, "sentences", watched)
    rng = random.Random(5)
    problem_pairs(rng, 40)
    list(solved_problems(rng, 60, {"en": 1.0}))
    training_rows(60)
    assert len(rendered) > 150
    assert {world.split_of(problem) for problem in rendered} == {"train"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_every_number_and_the_name(language):
    for problem in world.problems("validation", 40):
        text = world.render(problem, language)
        numbers = [int(n) for n in re.findall(r"\d+", text)]
        assert sorted(numbers) == sorted([problem.start, *(e.number for e in problem.events)])
        assert problem.name in text
        assert "  " not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_distinct(language):
    """A reader can tell every verb, noun and time from every other one."""
    rules = grammar(language)
    for order in range(rules.orders):
        said = {rules.event(order, "Tom", verb, 5, "book", "") for verb in world.VERBS}
        assert len(said) == len(world.VERBS)
        said = {rules.event(order, "Tom", "buy", 5, noun, "") for noun in world.NOUNS}
        assert len(said) == len(world.NOUNS)
        said = {rules.event(order, "Tom", "buy", 5, "book", time) for time in set(world.TIMES)}
        assert len(said) == len(set(world.TIMES))
    assert len({rules.event(order, "Tom", "buy", 5, "book", "then") for order in range(rules.orders)}) > 1


def test_careless_english_keeps_what_the_answer_needs():
    """Every number and one verb for it, in the order of events; the name at least once."""
    rng, changed = random.Random(0), 0
    for problem in world.problems("train", 300):
        text = careless(rng, problem)
        words = [word.strip(".?").lower() for word in text.split()]
        numbers = [word for word, before in zip(words, ["", *words], strict=False) if word.isdigit() and word != before]
        wanted = [str(number) for number in (problem.start, *(event.number for event in problem.events))]
        assert sorted(set(numbers), key=wanted.index) == wanted, text
        assert sum(word in VERB_FORMS for word in words) >= len(problem.events), text
        assert problem.name.lower() in words, text
        changed += text != world.render(problem, "en")
    assert 200 < changed < 300


def test_the_solution_is_right():
    for problem in world.problems("train", 100):
        text = world.solution(problem)
        for left, sign, right, result in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)\.", text):
            assert int(left) + (int(right) if sign == "+" else -int(right)) == int(result)
        assert text.endswith(f"The answer is {problem.answer}.")
        assert 3 <= len(problem.events) <= 5


def test_russian_counts():
    from langbridge.miniature.grammar.ru import counted

    assert [counted(n, "book") for n in (2, 5, 11, 12, 22, 40)] == [
        "2 книги", "5 книг", "11 книг", "12 книг", "22 книги", "40 книг",
    ]  # fmt: skip


def test_distractors_share_what_is_easy_and_differ_in_the_rest():
    original = world.problem("test", 11)
    found = world.distractors(original, 15, random.Random(0))
    assert len({(p.noun, p.combination) for p in [original, *found]}) == 16
    for other in found:
        assert other.name == original.name
        assert [e.number for e in other.events] == [e.number for e in original.events]
        assert {e.verb for e in other.events} - {e.verb for e in original.events}


def test_guess_rate_against_a_hand_count():
    # 30 with 2, 3, 4 in any signs: 21, 25, 27, 29 twice each way... eight patterns, all within range.
    events = tuple(world.Event("buy", n) for n in (2, 3, 4))
    problem = world.Problem("x", "Tom", "book", 30, events)
    assert world.guess_rate(problem) == 1 / 8
    # +2 +3 -5 and -2 -3 +5 both end where they began.
    events = (world.Event("buy", 2), world.Event("buy", 3), world.Event("lose", 5))
    assert world.guess_rate(world.Problem("x", "Tom", "book", 30, events)) == 2 / 8


def test_test_rows_are_the_same_problem_in_every_language():
    rows = {language: held_out_rows(language, 5) for language in ("en", "ja")}
    for english, japanese in zip(rows["en"], rows["ja"], strict=True):
        assert english["id"] == japanese["id"]
        assert english["answer"] == japanese["answer"]


def test_pairs_are_of_two_languages():
    pairs = sentence_pairs(random.Random(1), 32)
    assert len(pairs) == 32
    assert all(pair.languages[0] != pair.languages[1] for pair in pairs)


def test_order_entropy_against_a_hand_count():
    import math

    problem = world.Problem("x", "Tom", "book", 30, (world.Event("buy", 2), world.Event("buy", 3, "then")))
    # French says the start in one way. Without a time, its first two orders of an event come out alike.
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) + math.log(3)
    assert world.order_entropy(problem, "fr") == pytest.approx(expected)
