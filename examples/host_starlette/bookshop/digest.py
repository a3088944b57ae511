"""What readers think of a book, in two numbers and a quotation."""

import re
from typing import Annotated

from asgipipe import pipeline, step
from bookshop.database import query

WARM = {"brilliant", "delightful", "excellent", "funny", "good", "loved", "moving", "wonderful"}
COLD = {"boring", "bad", "confusing", "dull", "hated", "long", "poor", "tedious"}


@step
def rate(review: str) -> int:
    """Count warm words up and cold words down."""
    words = re.findall(r"\w+", review.lower())
    return sum((word in WARM) - (word in COLD) for word in words)


@step
def sum_up(ratings: dict[str, int]) -> Annotated[dict[str, int | str], "digest"]:
    return {
        "reviews": len(ratings),
        "favourable": sum(rating > 0 for rating in ratings.values()),
        "warmest": max(ratings, key=ratings.__getitem__, default=""),
    }


@pipeline
def digest(book: str) -> dict[str, int | str]:
    """Sum up what members wrote about a book."""
    reviews = query("select text from reviews where book = ?", book)
    return sum_up({text: rate(text) for (text,) in reviews})
