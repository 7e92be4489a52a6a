"""Manner or matter: what kind of token one is, by rule."""

from evaluation.shift_record import TokenKind

OPENING = 5
_WORDS = """
a an the this that these those some any each every no not none all both either neither such same other another i me
my mine myself you your yours yourself he him his she her hers it its itself we us our ours they them their theirs
one ones who whom whose which what where when why how whether there here then than as if unless until while because
since though although so and or but nor yet for of in on at by to from with without within into onto over under
above below between among through during before after about against around along across behind beside besides near
off out up down per via be am is are was were been being have has had having do does did doing done can could may
might must shall should will would ought need let lets i'm you're it's that's don't doesn't isn't aren't can't won't
i'd i'll you'll we'll also too very quite rather just only even still already again ever never always often usually
sometimes perhaps maybe however instead therefore thus otherwise first second third finally next more most less
least much many few several please yes sure okay well like
"""
FUNCTION = frozenset(_WORDS.split())


def kind_of(text: str, before: str, place: int, *, stop: bool) -> TokenKind:
    """The kind of a token at a place (from 0) of an answer, of which `before` stands already."""
    if stop:
        return "stop"
    if place < OPENING:
        return "opening"
    if not any(character.isalnum() for character in text):
        return "format"
    begins = not text[0].isalnum() or not before[-1:].isalnum()
    return "function" if begins and text.strip().lower() in FUNCTION else "content"
