"""How reviews sound, on a labelled sample of our own: English alone."""

from __future__ import annotations

import sys

import pytest

from encoders.events.types import DEFAULT_WEIGHTS, FULL
from encoders.text.sentiment import LEAST_BAD, SentimentMissing, english
from streams.contracts import Click, Purchase, UserEvent
from streams.receive.user_events import event_of

BAD = """Broke after two days, complete waste of money.
The zip jammed and the seams came apart, very disappointed.
Terrible quality, I want my money back.
Looks cheap and smells awful.
Does not fit at all and customer service was useless.
Worst jacket I ever bought.
The lamp flickers and gets dangerously hot.
I hate the colour, nothing like the picture.
Arrived damaged and the replacement was broken too.
Boring plot, I stopped after ten minutes.
Uncomfortable, my feet hurt after an hour.
Not worth the price, poor stitching.
Would not recommend it to anyone.
It leaks. Useless in the rain.
Fell apart in the wash, what a disappointment.
The battery died within a week.
Far too small, ugly and badly made.
Annoying noise, had to return it.
Not good. Not good at all.
I regret buying this.""".splitlines()
GOOD = """Love it, exactly what I was looking for!
Great quality and fast delivery.
The best tent I have ever owned.
Very comfortable, I wear them every day.
Beautiful colour and a perfect fit.
Works well, no complaints.
My kids are happy with it.
Excellent value for the price.
Warm, light and well made.
A wonderful story, could not put it down.
Sturdy and easy to assemble.
Good, would buy again.
Not bad at all, better than expected.
Super soft and cosy.
It does what it should.
Highly recommended!
Nice lamp, bright enough for reading.
Five stars, thank you.
Keeps me dry even in heavy rain.
No problems after a year of use.""".splitlines()
QUERIES = """red rain jacket
trail running shoes men 42
cheap tent for two
wool blanket grey
coffee grinder
is this available in black?
size L or XL?
gift for dad
phone case iphone 15
dark wood table
war novels
horror film
knife set
anti slip socks
heavy duty trash bags
low noise fan
kids bike 16 inch
winter boots no leather
broken white sofa
cancer zodiac mug""".splitlines()
ABOUT = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1_790_000_000_000}


def strength(text: str, type_: str) -> float:
    message = UserEvent(**ABOUT, type=type_, text=text)  # type: ignore[arg-type]
    return event_of(message, DEFAULT_WEIGHTS, english()).strength / FULL


def test_bad_reviews_are_told_from_good_ones() -> None:
    judge = english()
    found, wrong = sum(judge(text) <= LEAST_BAD for text in BAD), sum(judge(text) <= LEAST_BAD for text in GOOD)
    print(f"bad reviews found: {found} of {len(BAD)}; good ones taken for bad: {wrong} of {len(GOOD)}")
    assert found >= 0.9 * len(BAD)
    assert wrong <= 0.05 * len(GOOD)


def test_a_bad_review_is_less_of_the_same_and_no_other_text_is() -> None:
    assert sum(strength(text, "complete") < 0 for text in BAD) >= 0.9 * len(BAD)
    assert sum(strength(text, "complete") < -0.5 for text in BAD) >= 0.8 * len(BAD)
    for type_ in ("complete", "purchase", "cart"):
        assert strength("Worst one I ever bought, I hate it. Awful!", type_) < -0.5
        assert {strength(text, type_) for text in GOOD} == {1.0}
    assert strength("Worst one I ever bought, I hate it. Awful!", "dislike") == 1, "no review makes it a like"
    looks = [Click(**ABOUT, text=text) for text in QUERIES]  # type: ignore[arg-type]
    judged = [event_of(look, DEFAULT_WEIGHTS, english()).strength for look in looks]
    assert set(judged) == {FULL}, "the text of a look may be a query"
    bought = Purchase(**ABOUT, text=BAD[0])  # type: ignore[arg-type]
    assert event_of(bought, DEFAULT_WEIGHTS, english()).strength < 0 < event_of(bought, DEFAULT_WEIGHTS).strength


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(SentimentMissing, match=r"pip install 'afterclick\[reviews\]'"):
        english()
