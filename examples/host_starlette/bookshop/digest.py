"""What readers think of a book, in three numbers and two quotations."""

import re
from typing import Annotated

from asgipipe import pipeline, step
from bookshop import database

WARM = {"brilliant", "delightful", "excellent", "funny", "good", "loved", "moving", "wonderful"}
COLD = {"boring", "bad", "confusing", "dull", "hated", "long", "poor", "tedious"}


@step
def rate(review: str) -> int:
    """Count warm words up and cold words down."""
    words = re.findall(r"\w+", review.lower())
    return sum((word in WARM) - (word in COLD) for word in words)


@step
def sum_up(reviews: list[str], ratings: list[int]) -> Annotated[dict[str, int | str | None], "digest"]:
    by_rating = sorted(zip(ratings, reviews, strict=True))
    return {
        "reviews": len(reviews),
        "favourable": sum(rating > 0 for rating in ratings),
        "unfavourable": sum(rating < 0 for rating in ratings),
        "warmest": by_rating[-1][1] if reviews else None,
        "coldest": by_rating[0][1] if reviews else None,
    }


@pipeline
def digest(book: str) -> dict[str, int | str | None]:
    """Sum up what members wrote about a book."""
    reviews = database.reviews_of(book)
    return sum_up(reviews, [rate(review) for review in reviews])
