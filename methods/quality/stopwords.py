"""English function words that carry grammar rather than content: what a count of vocabulary leaves out.

Here belongs the list, as plain data, and nothing else. It holds the closed classes of English (articles and other
determiners, pronouns, prepositions, conjunctions, auxiliaries, the negations and the adverbs of place, time and degree
that only point), with their contractions. It was written for this project: a list that several maintained packages
agree upon does not exist, and none of them ships one in a form that needs no download or heavy import.
"""

from __future__ import annotations

_DETERMINERS = """
a an the this that these those each every either neither both all any some no none such another other others same own
much many more most few fewer less least several enough what which whatever whichever
"""
_PRONOUNS = """
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves one oneself who whom whose whoever whomever someone somebody something
anyone anybody anything everyone everybody everything nobody nothing there
"""
_PREPOSITIONS = """
about above across after against along among amongst around as at before behind below beneath beside besides between
beyond by despite down during except for from in inside into like near of off on onto out outside over per since through
throughout till to toward towards under underneath until up upon via with within without
"""
_CONJUNCTIONS = """
and or but nor so yet if unless because although though while whilst whereas whether than lest once when whenever where
wherever why how however therefore thus hence
"""
_AUXILIARIES = """
be am is are was were been being have has had having do does did doing done can could may might must shall should will
would ought cannot let's
"""
_ADVERBS = "not too very also just only even still again already ever never here then now rather quite perhaps almost"
_CONTRACTIONS = """
i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've we'd we'll
they're they've they'd they'll that's there's here's what's who's where's how's isn't aren't wasn't weren't haven't
hasn't hadn't don't doesn't didn't can't couldn't mayn't mightn't mustn't shan't shouldn't won't wouldn't
"""

STOP_WORDS: frozenset[str] = frozenset(
    " ".join((_DETERMINERS, _PRONOUNS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, _ADVERBS, _CONTRACTIONS)).split()
)
"""Lower-cased words, as `methods.tokens.tokenize` gives them."""
