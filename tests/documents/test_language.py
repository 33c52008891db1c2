"""The language of a text decides how its words are stemmed."""

# ruff: noqa: RUF001  # Other alphabets are what this is about.
import threading

import pytest

from backend.documents.language import CONFIGURATIONS, UNSURE, language_of
from backend.postgres.embedded import EmbeddedPostgres
from tests.conftest import query

TEXTS = {
    "english": "The committee met on Tuesday to discuss the budget for the coming year and to hear from the engineers.",
    "german": "Der Ausschuss trat am Dienstag zusammen, um über den Haushalt für das kommende Jahr zu beraten.",
    "french": "Le comité s'est réuni mardi pour discuter du budget de l'année prochaine et entendre les ingénieurs.",
    "spanish": "El comité se reunió el martes para discutir el presupuesto del próximo año y oír a los ingenieros.",
    "italian": "Il comitato si è riunito martedì per discutere il bilancio del prossimo anno e ascoltare gli esperti.",
    "dutch": "De commissie kwam dinsdag bijeen om de begroting voor het komende jaar te bespreken met de ingenieurs.",
    "portuguese": "A comissão reuniu-se na terça-feira para discutir o orçamento do próximo ano e ouvir os técnicos.",
    "swedish": "Kommittén sammanträdde på tisdagen för att diskutera budgeten för det kommande året med ingenjörerna.",
    "norwegian": "Komiteen møttes på tirsdag for å diskutere budsjettet for det kommende året og høre på ingeniørene.",
    "russian": "Комитет собрался во вторник, чтобы обсудить бюджет на следующий год и выслушать инженеров компании.",
    "turkish": "Komite, gelecek yılın bütçesini görüşmek ve mühendisleri dinlemek için salı günü bir araya geldi.",
    "greek": "Η επιτροπή συνεδρίασε την Τρίτη για να συζητήσει τον προϋπολογισμό του έτους με τους μηχανικούς.",
}
OTHERS = {
    "polish": "Komisja zebrała się we wtorek, aby omówić budżet na przyszły rok i wysłuchać sprawozdania inżynierów.",
    "ukrainian": "Комітет зібрався у вівторок, щоб обговорити бюджет на наступний рік і вислухати інженерів компанії.",
    "japanese": "委員会は火曜日に集まり、来年の予算について話し合い、技術者の報告を聞いた。" * 3,
    "hebrew": "הוועדה התכנסה ביום שלישי כדי לדון בתקציב לשנה הבאה ולשמוע את דברי המהנדסים של החברה.",
}


@pytest.mark.spec("LANG-1")
@pytest.mark.parametrize(("language", "text"), TEXTS.items(), ids=TEXTS)
def test_a_language_that_postgres_knows_is_recognized(language: str, text: str) -> None:
    assert language_of(text) == language
    assert language_of(text.upper()) == language


@pytest.mark.spec("LANG-2")
@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_a_language_that_postgres_does_not_know_is_left_alone(text: str) -> None:
    assert language_of(text) == UNSURE


@pytest.mark.spec("LANG-2")
@pytest.mark.parametrize("text", ["", " \n", "Hello", "Invoice", "1.5\t2.5\t3.5\n" * 200, "🎉" * 500, "\ud800" * 100])
def test_what_is_short_or_no_language_is_left_alone(text: str) -> None:
    assert language_of(text) == UNSURE


@pytest.mark.spec("LANG-3")
def test_the_answer_is_the_same_in_every_thread() -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(language_of(TEXTS["dutch"] * 1_000))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert answers == ["dutch"] * 4


@pytest.mark.spec("LANG-3")
def test_every_answer_is_a_configuration_of_the_database(cluster: EmbeddedPostgres) -> None:
    known = {row[0] for row in query(cluster.url, "select cfgname from pg_ts_config")}

    assert {UNSURE, *CONFIGURATIONS.values()} <= known
