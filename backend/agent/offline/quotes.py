"""Choose the sentences to quote. These are the sentences with the most words from the question."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from backend.agent.offline.patterns import BLANK
from backend.runs.citations import MARK, Passage

MOST_QUOTES = 3
LONGEST_QUOTE = 300
SHORTEST_SENTENCE = 30
"""The fewest characters in a sentence that is quoted alone. A shorter sentence, such as a heading, is joined to the
next sentence."""
NEW_WORDS = 0.5
"""A further sentence is quoted if the words that it adds weigh at least this share of the best sentence's weight."""
AS_GOOD = 0.9
"""A sentence with at least this share of the best sentence's weight may be the answer instead."""

# fmt: off
_SMALL = frozenset(re.findall(r"\w+", """
    a about above according after all also am an and any are as at be been before being but by can could did do does
    doing document documents done due each everything explain file files find finish finished completed open left next
    get got go much many use late overdue pending for from give had has have having he
    her here him his how i if in into is it its just list me
    more most my name need no not now of off on only or other our out over own pdf please s said say says she should
    show so some such t tell than that the their them then there these they this those through to today tomorrow
    tonight too under until up us very was we week month year weekend monday tuesday wednesday thursday friday saturday
    sunday were what when where which while who whom whose why will with would you your describe remaining outstanding
    morning afternoon evening noon end model ai this"""))
_SENTENCE = re.compile(r"(?<=[.!?\u2026])\s+(?=[\"'\u201c\u201e(\[]?[A-Z\u00c0-\u00de0-9])|(?<=[\u3002\uff01\uff1f])"
                       r"|\n\s*\n|\n(?=\s*(?:[-*\u2022]|\d+[.)])\s)")
_HEADINGS = re.compile(r"\A\s*(?:#{1,6}\s[^\n]*\n\s*)+")
# fmt: on


def content_of(text: str) -> list[str]:
    """Return the words that carry a text's meaning, in lower case."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in _SMALL]


def quotes(question: str, passages: list[tuple[Passage, float]]) -> Iterator[tuple[Passage, str]]:
    """Yield at most `MOST_QUOTES` quoted sentences with citation marks, each with its passage.

    `passages` are passages with their scores. A question's word counts more if it is rare in the passages, and if it is
    in a passage with a high score. If no passage has any of the question's words, because the passages were found by
    meaning alone, the first two sentences are quoted.
    """
    sentences = [(passage, sentence) for passage, _ in passages for sentence in _sentences(passage.text)]
    scores = {passage.id: score for passage, score in passages}
    told: set[str] = set()
    for place in _chosen(question, [(sentence, scores[passage.id]) for passage, sentence in sentences]):
        passage, sentence = sentences[place]
        quote = quoted(sentence, most=LONGEST_QUOTE)
        if quote not in told:
            told.add(quote)
            yield passage, f"{quote} [p{passage.id}]"


def quoted(text: str, *, most: int) -> str:
    """Quote a text on one line, without leading headings, cut to `most` characters.

    If parts of the text look like citation marks, only the longest part between such marks is quoted.
    """
    words = BLANK.sub(" ", max(MARK.split(_HEADINGS.sub("", text) or text), key=len)).strip()
    return f'"{words if len(words) <= most else words[:most].rpartition(" ")[0] or words[:most]}"'


def _chosen(question: str, sentences: list[tuple[str, float]]) -> list[int]:
    wanted = {_stem(word) for word in content_of(question)}
    words = [wanted & {_stem(word) for word in re.findall(r"\w+", sentence.lower())} for sentence, _ in sentences]
    counts = Counter(word for has in words for word in has)

    def weight(place: int, of: set[str]) -> float:
        return sentences[place][1] * sum(math.log(1 + len(sentences) / counts[word]) for word in words[place] & of)

    weights = [weight(place, wanted) for place in range(len(sentences))]
    # Sentences with equal weights stay in the order of the search.
    ranked = sorted(range(len(sentences)), key=lambda place: -weights[place])
    if not ranked or not weights[ranked[0]]:
        return list(range(len(sentences)))[:2]
    most, missing, chosen = weights[ranked[0]], set(wanted), list[int]()
    for _ in range(MOST_QUOTES):
        best = max(ranked, key=lambda place: weight(place, missing))
        if weight(best, missing) < NEW_WORDS * most:
            break
        chosen.append(best)
        missing -= words[best]
    as_good = [place for place in ranked if weights[place] >= AS_GOOD * most and place not in chosen]
    return (chosen + as_good)[:MOST_QUOTES]


def _stem(word: str) -> str:
    word = word.removesuffix("s") if len(word) > 3 else word
    return word if len(word) < 5 else word[: max(4, len(word) - 3)]


def _sentences(text: str) -> Iterator[str]:
    """Yield a text's sentences. A short sentence is joined to the next sentence; a long one is split into lines."""
    held = 0
    for end in [*(match.start() for match in _SENTENCE.finditer(text)), len(text)]:
        piece = text[held:end]
        if len(piece.strip()) < SHORTEST_SENTENCE and end < len(text):
            continue
        held = end
        yield from (line for line in (piece.split("\n") if len(piece) > LONGEST_QUOTE else [piece]) if line.strip())
