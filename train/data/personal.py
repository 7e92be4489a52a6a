"""Personal data in a text, as far as patterns tell: e-mail addresses, telephone numbers, card numbers, keys and passwords.

A warning for a person to look at, and no proof of the opposite: names and addresses are not found.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from phonenumbers import Leniency, PhoneNumberMatcher

Kind = Literal["e-mail address", "telephone number", "card number", "key or password"]

REGIONS = ("US", "GB", "DE", "FR", "IN")
"""Where a number without a country code may be from; with one it may be from anywhere."""

_EMAIL = re.compile(r"[\w.+-]+@(?:[\w-]+\.)+[^\W\d_]{2,}")
_EXAMPLE = re.compile(
    r"(?:\.|@)(?:example|test|invalid|localhost)$|@(?:[\w-]+\.)*example\.(?:com|net|org)$", re.IGNORECASE
)
"""Names that are nobody's (RFC 2606)."""
_CARD = re.compile(r"(?<![\d.-])[3-6]\d(?:[ -]?\d){11,17}(?![\d-])")
_PUBLISHED = re.compile(
    r"\b(?i:arxiv)(?:\.org/(?:abs|pdf)/|[:\s]{1,2})(?:[a-z-]+/\d{7}|\d{4}\.\d{4,5})"
    r"|\b(?:astro-ph|cond-mat|gr-qc|hep-(?:ex|lat|ph|th)|math(?:-ph)?|nucl-(?:ex|th)|quant-ph)/\d{7}\b"  # arXiv before 2007
    r"|\b10\.\d{4,9}/\S+"  # DOI
    r"|\b(?:[A-Z][a-z]+){2,}[A-Z]?\.\d+\.\d+"  # a journal's own, as PhysRevLett.119.180501
    r"|\bZbl\s?\d{4}\.\d{5}\b"
    r"|\bISBN(?:-1[03])?[:\s]{0,2}(?:97[89][ -]?)?(?:\d[ -]?){9}[\dXx]\b"
    r"|\b[Pp]atents?\s+(?:(?:[Aa]pplication|[Nn]umber|[Nn]o\.)\s+)*(?:[A-Z]{2}\s?)?\d[\d,/]*\d\b"
    r"|\b[A-Z]{2}\s?(?:\d{4}/)?\d{6,11}\s?[A-CU]\d\b"  # a patent's, with its kind
)
"""Numbers of papers, books and patents, known by what stands before or behind them."""
_NOBODYS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|0\.\d+|0[7-9](?:0[1-9]|1[0-2])\.\d{4}")
"""What is a machine's address, a fraction, or a paper of arXiv from 2007 to 2014 when a number is that as a whole."""
FEWEST_DIGITS = 7
"""Of a telephone number that is somebody's; shorter ones are a year, a price or a hotline."""
_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bAKIA[0-9A-Z]{16}\b"  # AWS
    r"|\bAIza[\w-]{35}"  # Google
    r"|\bgh[pousr]_\w{36,}|\bgithub_pat_\w{22,}"
    r"|\bglpat-[\w-]{20,}"
    r"|\bxox[abeprs]-[\w-]{10,}"  # Slack
    r"|\bsk[-_][\w-]{20,}"  # OpenAI, Anthropic, Stripe
    r"|\bhf_\w{30,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON Web Tokens
    r"|\b(?:api[_ -]?key|password|passwd|secret|token)\b[\"']?\s*(?:[:=]|is)\s*[\"']?(?=\S*\d)(?=\S*[A-Za-z])[^\s\"']{8,}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Personal:
    """Something in a text that may be somebody's own."""

    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def passes_luhn(digits: str) -> bool:
    """Whether a card number's last digit is what the others ask for (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _found(text: str) -> Iterator[tuple[int, Personal]]:
    for match in _EMAIL.finditer(text):
        if not _EXAMPLE.search(match[0]):
            yield match.start(), Personal("e-mail address", match[0])
    cards = [match for match in _CARD.finditer(text) if passes_luhn(re.sub(r"\D", "", match[0]))]
    for match in cards:
        yield match.start(), Personal("card number", match[0])
    keys = list(_KEY.finditer(text))
    for match in keys:
        yield match.start(), Personal("key or password", match[0])
    taken = [match.span() for match in (*cards, *keys, *_PUBLISHED.finditer(text))]
    seen: set[int] = set()
    for region in REGIONS:
        for number in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
            inside = any(start <= number.start < end for start, end in taken)
            plain = sum(character.isdigit() for character in number.raw_string) < FEWEST_DIGITS
            if number.start not in seen and not inside and not plain and not _NOBODYS.fullmatch(number.raw_string):
                seen.add(number.start)
                yield number.start, Personal("telephone number", number.raw_string)


def personal(text: str) -> list[Personal]:
    """What is found, in its order in the text."""
    return [what for _, what in sorted(_found(text), key=lambda found: found[0])]
