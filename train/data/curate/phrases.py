"""The phrases that the rules look for, as patterns; each list is one alternation."""

import regex


def _any(*patterns: str, flags: int = 0) -> "regex.Pattern[str]":
    return regex.compile("|".join(patterns), regex.MULTILINE | flags)


NO_PROSE = _any(
    r"^[ \t]*(`{3,}).*?^[ \t]*\1[ \t]*$",
    r"`[^`\n]+`",
    r"\$\$.*?\$\$",
    r"\$[^$\n]{1,200}\$",
    r"^>[^\n]*$",
    r"\"[^\"\n]{1,300}\"",
    r"\u201c[^\u201d\n]{1,300}\u201d",
    flags=regex.DOTALL,
)
"""Code, formulas, quotations, and what stands in quotation marks."""
QUOTED = _any(r"^(?:>[ \t]*)+(\S[^\n]*)$")
"""A line of a quotation."""

_NUMBERED = (
    "type|war|class|phase|part|group|section|chapter|stage|act|book|level|appendix|table|volume|"
    "elizabeth|charles|james|george|henry|william|napoleon"
)
FIRST_PERSON = _any(
    rf"(?<![\w$\\/.^_(=+*-])(?<!\b(?i:{_NUMBERED})\s)I(?:[\u2019'](?:m|d|ve|ll)\b|(?=[\s,]+[a-z(*_]))(?!\s+is the\b)",
    r"\b(?:[Mm]y|[Mm]yself|[Mm]e)\b(?![-_.(]\w)",
    r"\b(?:of|to|with|than) mine\b",
    r"\bmine (?:is|was|are)\b",
    r"(?:^|[.!?,;]\s+|\b(?:and|but|so|as|if|that|what|when)\s+)i[\u2019'](?:m|d|ve|ll)\b",
    r"(?:^|[.!?,;]\s+|\b(?:and|but|so|as|if|that|what|when)\s+)i(?=\s+(?:am|was|have|had|think|would|don|know|use|do|can)\b)",
    r"\b(?:IMO|IMHO|AFAIK|AFAICT|IIRC|imo|imho|afaik|iirc)\b",
)

_KIND = r"(?:(?:great|good|excellent|fine|nice|detailed|two|three|given|posted|other)\s+)?"
_WHICH = (
    "other|others'|previous|earlier|accepted|top|existing|another|preceding|above|below|various|several|both|these|two"
)
_ONE_OF = r"(?:other|existing|previous|earlier|accepted|another|preceding)"
_AFTER = (
    r"(?=[\s,]+(?:here|above|below|says?|said|mention|has|have|already|is|are|does|do|give|cover|suggest|explain|note|point|and|to this|by|from)"
    r"|\s*[,.:;)\u2013-]|\s*$)"
)
_SAID = "said|says|mentioned|noted|notes|pointed|wrote|explained|suggested|stated|answered|posted|covered"
_NO_CODE = "(?! (?:section|block|line|character|out|tag|syntax))"
OTHERS = _any(
    r"(?<![\w.@/])@(?!media|import|property|override|param)[A-Za-z][\w-]+\b(?!\.)",
    rf"\b(?i:{_WHICH})\s+{_KIND}(?:answers|posters?|respondents?|commenters?)\b",
    rf"\b(?i:{_ONE_OF})\s+{_KIND}(?:answer|reply|response)s?\b{_AFTER}",
    r"(?<!\b[Ff]inal )\b[Aa]nswers?\s+(?:here|above|below|given (?:here|above|by|so)|by\s+@?\p{L}+|of\s+@\w+|posted)\b",
    r"\b[Aa]nswers already\b|\b[Aa]nswer already (?:here|given|posted|says?|covers|explains|mentions|points)\b",
    rf"\b\w+['\u2019]s?\s+{_KIND}(?:answer|comment|post)\b",
    r"\b(?i:as|like|already|was|were|been)\s+(?:\w+\s+){0,3}?(?:mentioned|pointed out|alluded to)\b",
    rf"\b(?i:as|like)\s+(?!you\b)[A-Z]\w+\s+(?:\w+\s+)?(?:{_SAID})\b",
    rf"\b(?i:others|someone|somebody|everyone|everybody|people|folks)\s+(?:(?:here|above|below|else|have|has|already)\s+)+(?:{_SAID})\b",
    r"\b(?:to|will|would) (?:add|expand|build|elaborate) (?:to|on|upon) (?:the |what |@|[A-Z]\w+['\u2019])",
    rf"\b(?i:in|see|from|per|read) (?:the |a |your |his |her |these )?comments?\b{_NO_CODE}",
    r"\b[Cc]omments? (?:above|below|here|by|from)\b",
    r"\b[Yy]our comment\b",
    r"\b[Cc]ommented (?:above|below|that|on)\b",
)

SITE = _any(
    r"(?i:\bstack\s?exchange\b)",
    r"\b(?:Stack ?Overflow|stackoverflow|Server ?Fault|Super User|Ask Ubuntu|MathOverflow)\b",
    r"\b(?i:this|our) (?:site|forum|stack|community|thread|Q&A|answer|post|topic)\b",
    r"\bSE\b(?=[.,:)]| (?:site|question|post|answer|for|is|has|here))",
    r"\b(?i:crypto|physics|math|stats|cs|chem|bio|ux|tex|security|programmers)\.se\b",
    r"(?i:\b(?:up|down)[- ]?vot(?:e|ed|es|ing)\b|\boff[- ]topic\b|\bcommunity wiki\b)",
    r"\bOP\b(?!\s*(?:code|amp))",
    r"\b(?i:original (?:poster|question|asker|post)|the (?:asker|questioner|poster))\b",
    r"\bduplicate (?:of|question)\b|\b(?:suggested|possible) duplicate\b",
    r"\b(?i:this|the|a) related (?:question|post|answer)\b",
    r"^[\W_]*(?i:edit(?:ed)?|update|updated|addendum|p\.?s)\b\W{0,3}(?:\s*\d+)?\s*(?:[:(\u2013-]|\*\*|to\b|$)",
    r"\b(?i:edit|update)\s*\d*:",
)

_THING = "page|article|paper|video|site|website|question|answer|post|one|blog|list|chart|table|image|picture|thread|wiki|document"
_MORE_THINGS = "study|book|review|tutorial|discussion|links?"
HIDDEN_LINK = _any(
    r"here|there|this|that|these|link|sources?|see|more|page|video|reference|click here|via|cite|\W*\d+\W*|\W+",
    rf"(?:from |see )?(?:this|that|the|these|here'?s?|another) (?:\w+ ){{0,2}}?(?:{_THING}|{_MORE_THINGS})",
    r"https?://\S*|www\.\S*|\S+\.(?:com|org|net|edu|html?|pdf)\S*",
    flags=regex.IGNORECASE,
)
"""Words of a link that say nothing without it."""

_SHOWN = "links?|videos?|images?|pictures?|photos?|screenshots?|plots?|pages?|articles?|papers?|blogs?|websites?|infographic|gif|slides?"
_DRAWING = "image|picture|photo|screenshot|figure|plot|graph|chart|diagram"
_NOTES = "sources?|references?|further reading|see also|additional (?:resources|reading)|links?|resources|footnotes?|read more|credits?"
_YOURS = "example|post|question|code|case|description|picture|image|screenshot|snippet|edit|link|quote"
_TOLD_THERE = "summary|overview|explanation|description|list|guide|discussion|details?|information|proof"
_VERBS = "is|was|does|did|can|should"
UNSEEN = _any(
    r"https?://|\bwww\.\w",
    rf"\b(?:this|that|following|above|below|attached|linked|these) (?:{_SHOWN})\b",
    rf"\b(?:links?|{_DRAWING}|video|circuit) (?:above|below|here)\b",
    rf"\b(?:below|above) is (?:a|an|the) (?:{_DRAWING})\b",
    r"\b(?:pictured|shown|depicted|illustrated) (?:here|above|below|to the (?:left|right))\b",
    rf"\b(?:in|see|from|by) (?:the |this )?(?:{_DRAWING}|fig\.)\b|\b(?:in|see|from) the (?:video|lecture|slides)\b",
    rf"\b(?:{_TOLD_THERE}) (?:can be|is|are) (?:also )?(?:seen|found|read|available|given) (?:at|on|in)\b",
    rf"\A\W*(?:you(?: are|['\u2019]re) (?:\w+ )?(?:right|correct|wrong|mistaken)|that(?:['\u2019]s| (?:{_VERBS})(?:n['\u2019]t)?))\b",
    r"\b(?:all|most|this|the) (?:of the )?(?:information|info|list|quote|text|section) (?:is |was |comes )?(?:taken |copied )?(?:from|on)\b",
    r"\b(?:visit|see|read|check|find|look at)\b[^.\n]{0,60}\bhere\b(?=[\s.)]*$)",
    r"\bfor (?:more|further) (?:\w+ )?(?:details|information|info|reading|images)",
    r"\baccording to (?:the )?wikipedia\b|\bwikipedia (?:page|article|says|entry|list|section)\b|\b(?:on|from|at|in|see|the) wikipedia\b",
    r"\bsources?:\s|\b(?:better|broken|dead|original) links?\b|\^\(\p{L}|\*[ \t]*$(?<![*\w][*][ \t]*)",
    r"\bclick(?:ing)? (?:here|on the link)\b|\bsee here\b|\bfound here\b",
    r"\b(?:image|photo|picture) (?:source|credits?|courtesy)\b",
    rf"^[\W_]*(?:{_NOTES})\b[\W_]*(?:$|:)",
    r"(?<=[\w.,)] ?)\[\d{1,2}\](?![\w\[(])|[\u00b9\u00b2\u00b3]$|^[\u00b9\u00b2\u00b3]",
    r"\byou (?:have )?(?:mentioned|posted|described|quoted|linked|cited|wrote|gave|included)\b",
    r"\b(?:this|the same) (?:[\w-]+ ){0,4}?(?:article|paper|video|blog|tutorial)\b|\b(?:such as|like) this one\b|\bread more\b",
    rf"\bthe (?:{_DRAWING}) shows\b",
    r"\b(?:answered|detailed|explained|discussed|described|outlined|table|chart|list|graph|article|paper|tutorial) here\b",
    r"\b(?:noted|said|stated) (?:above|earlier)\b|\byou mention\b",
    rf"\bin your (?:{_YOURS})\b",
    r"(?<!\banswers? (?:to )?)\byour (?:(?:first|second|last) )?(?:question|code|snippet|example|link|quote)\b",
    flags=regex.IGNORECASE,
)

ASKS = _any(
    r"(?:[\w\"'(\u201c]+,? ){0,6}?(?:how|what|why|when|where|which|who|whose|is|are|was|were|do|does|did|can|could|should|would|will|has|have|if)\b",
    flags=regex.IGNORECASE,
)
_NO_SAYING = r"(?<!\bthat(?: is|['\u2019]s) )"
"""Not behind "that is": "to brew or not to brew, that is the question"."""
DEICTIC = _any(
    r"\b(?:this|these|following|(?<!from )above|(?<!from )below|attached|such|that one|here)\b",
    rf"{_NO_SAYING}\bthe (?:picture|image|photo|code|example|question|answer|paper|article)\b",
    r"\[(?:closed|duplicate|on hold)\]|\?\?|\.\.\.",
    flags=regex.IGNORECASE,
)
"""What makes a title lean on the text below it."""

NOT_ALONE = _any(
    r"\b(?:in|see|per|as) (?:title|subject line)\b|\b(?:the|my) (?:title|subject line)\b(?! (?:of|for|to|on|from)\b)",
    r"\btitle (?:says?|said|asks?|states?|question)\b|^[\W_]*title\b",
    rf"{_NO_SAYING}\b(?:this|the) (?:question|picture|image|photo|video|link|article|screenshot)s?\b|\bsee here\b",
    r"^[\W_]*(?:edit(?:ed)?|updated?)\b\W{0,3}\d*\s*(?:[:(\u2013-]|$)|\b(?:edit|update)\s*\d*:",
    r"^[ \t]*[*_(\[#]+(?:edit|update)|(?-i:\b(?:EDIT|UPDATE)\b)",
    r"https?://|@\w",
    flags=regex.IGNORECASE,
)
"""What makes a description lean on what is not in it."""
