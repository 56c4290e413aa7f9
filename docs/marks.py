"""What the scripts that write pages share: a page holds what is written between two marks."""

import re
from collections.abc import Callable, Mapping


def between_marks(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return ``page`` with what stands between ``<!-- name -->`` and ``<!-- /name -->`` written anew, part by part."""
    for name, part in parts.items():
        between = rf"(<!-- {name} -->).*?(<!-- /{name} -->)"
        page = re.sub(between, lambda marks, part=part: f"{marks[1]}\n{part()}\n{marks[2]}", page, flags=re.DOTALL)
    return page
