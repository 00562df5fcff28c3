r"""The wordings that the row rules look for, language by language, as regular expressions of the regex crate.

Here belong words alone; which column they are looked for in, and what follows, stands in `rules`. Refusals are matched
against the head of the response (lower case, straight apostrophes, single spaces) from its very beginning, so
that a text about refusing does not count as one.
"""

from __future__ import annotations

_SORRY = (
    r"(?:(?:i'm|i am|we're|we are) (?:so |very |truly |really |terribly |deeply )*sorry|sorry|unfortunately|"
    r"regrettably"
    r"|(?:my |our )?(?:sincere )?apologies|(?:i|we) (?:sincerely )?apologi[sz]e|i regret)"
    r"(?: for (?:the|any) (?:confusion|inconvenience|misunderstanding))?"
)
_AI = (
    r"(?:as|being|since i am|since i'm|because i am|because i'm) (?:just |only |merely |simply )?an? "
    r"(?:\w+ ){0,2}?(?:ai|a\.i\.|artificial intelligence|machine learning|language model|llm|chat ?bot)"
    r"(?: language| text)*(?: model| assistant| system| program| chat ?bot| bot| tool)?"
)
_CANNOT = (
    r"(?:can ?not|can't|could ?not|am (?:currently |simply )?(?:not able|unable|not capable|incapable|not allowed"
    r"|not permitted|not programmed|not designed|not equipped|not authorized)(?: to)?|'?m (?:not able|unable|"
    r"not capable"
    r"|not allowed|not programmed)(?: to)?|won't|will not|(?:do not|don't) have (?:the )?(?:access|ability|"
    r"capability|enough"
    r"|sufficient|personal|real-time|any information|information|the necessary)|lack the (?:ability|capability))"
)
_SERVE = (
    r"(?:directly |fully |really |actually |do that or )?(?:assist|help(?: you)? with|help you|fulfil|comply|provide|"
    r"answer"
    r"|respond to|generate|create|write|produce|engage in|participate in|discuss|offer|complete|support|process|"
    r"perform"
    r"|translate|access|do (?:that|this|it)\b|give (?:you |any )?(?:medical|legal|advice|instructions|information)|"
    r"share"
    r"|continue|promote|condone|encourage|determine|execute|play\b|browse|open|see\b|view)"
)

REFUSAL = (
    # "I'm sorry, but I cannot provide ...", "Unfortunately, as an AI I don't have access to ..."
    rf"^{_SORRY}[,.!;:]?(?: but| however)?,?(?: {_AI},?)? ?(?:i|we)(?: |'m )?(?:{_CANNOT}) ?(?:{_SERVE})",
    rf"^{_SORRY}[,.!]?(?: but| however)?,? (?:i|we) ?(?:(?:do not|don't|currently do not) have (?:access|"
    rf"the (?:ability|capability)"
    r"|(?:enough|sufficient|any) (?:\w+ )?(?:information|context|data|details))|(?:am|'m) (?:not programmed|(?:just |"
    r"only )?an? ai))",
    rf"^{_SORRY}[,.!]?(?: but| however)?,? {_AI}\b",
    r"^sorry,? (?:but )?(?:the|this|that) (?:task|request|question|instruction|image|input)\b.{0,160}"
    r"(?:can ?not|can't|not (?:possible|able|feasible|supported|something)|unable|impossible|beyond|unreliab)",
    r"^(?:sorry,? )?(?:i'm not|i am not) (?:able|allowed|permitted|programmed) to (?:assist|help|provide|comply|"
    r"answer|fulfil)",
    # Without an apology only the words of a model count, since people say that they cannot, too.
    r"^(?:i|we) (?:can ?not|can't|am unable to|am not able to|will not|won't) (?:assist (?:you )?with|"
    r"help (?:you )?with (?:that"
    r"|this)|fulfil|comply with|provide (?:you |any |a |an |the |ways|information|instructions|advice|assistance|"
    r"medical"
    r"|legal|past|real)|answer (?:this|that|the|your)|engage in|respond to (?:this|that|your))",
    # "As an AI language model, I ..."; a shorter name needs a "not" after it.
    rf"^{_AI}[,:;]? (?:i|my|we|it|there)\b.{{0,120}}?\b(?:{_CANNOT}|don't|do not|not|no)\b",
    r"^(?:as|i am|i'm|being) (?:just |only )?an? (?:\w+ )?(?:ai|artificial intelligence)?[ -]?language model\b",
    r"^(?:i am|i'm) (?:just |only )?an? (?:ai|artificial intelligence)\b[^.]{0,60}?(?:,| and| so)+ (?:so |"
    r"and )?(?:therefore )?i"
    rf" ?(?:{_CANNOT}|don't|do not)",
    # Chinese
    r"^(?:非常|十分|很|实在)?(?:抱歉|对不起|不好意思|遗憾)[，,。！! ]{0,2}(?:但是?|不过|由于|因为|作为|我|这|您|你|"
    r"目前|根据)?"
    r"[^。！？\n]{0,30}?(?:无法|不能|没有办法|没办法|不会|不便|不可以|没有能力|不具备|没有足够)",
    r"^(?:作为|身为|我(?:只)?是)(?:一[个名款位种])?[^，,。\n]{0,8}?(?:人工智能|ai|语言模型|机器人|"
    r"聊天助手)[^，,。\n]{0,10}"
    r"[，,]?(?:所以|因此)?我[^。！？\n]{0,12}?(?:无法|不能|没有|不具备|不会|不可以)",
    r"^我(?:无法|不能)(?:提供|回答|完成|协助|帮助|满足|生成|执行)",
    # Spanish, French, German, Portuguese, Italian
    r"^(?:lo siento|lo lamento|disculp[ae]|perd[oó]n)[,.]?(?: mucho)?,? ?(?:pero )?(?:como [^,]{0,40}, )?(?:yo )?no "
    r"(?:puedo|soy capaz|me es posible|tengo (?:acceso|la capacidad)|estoy (?:programad|autorizad))",
    r"^como (?:un |una )?(?:modelo de lenguaje|ia\b|inteligencia artificial|asistente (?:de ia|virtual)).{0,80}\bno\b",
    r"^(?:je suis (?:vraiment |sincèrement )?désolée?|désolée?|"
    r"je m'excuse)[,.]?(?: mais)?,? ?(?:en tant [^,]{0,40}, )?je ne "
    r"(?:peux|suis pas|saurais|puis|dispose)",
    r"^en tant (?:que |qu')(?:modèle de langage|ia\b|intelligence artificielle|assistant).{0,80}\bne?\b",
    r"^(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung|leider)[,.]?(?: aber)?,? ?(?:ich kann|kann ich|"
    r"ich bin|ich darf)"
    r"\b[^.]{0,80}\b(?:nicht|keine?n?)\b",
    r"^als (?:ein |eine )?(?:ki\b|künstliche intelligenz|sprachmodell|ki-).{0,80}\b(?:nicht|keine?n?)\b",
    r"^(?:desculpe|sinto muito|lamento|perdão)[,.]?(?: mas)?,? ?(?:eu )?não (?:posso|consigo|sou capaz|tenho acesso|"
    r"é possível)",
    r"^como (?:um |uma )?(?:modelo de linguagem|ia\b|inteligência artificial|assistente (?:de ia|"
    r"virtual)).{0,80}\bnão\b",
    r"^(?:mi dispiace|mi spiace|scusa|spiacente)[,.]?(?: molto)?,? ?(?:ma )?(?:io )?non (?:posso|sono in grado|"
    r"ho accesso)",
    r"^(?:come|in quanto|essendo) (?:un |un'|una )?(?:modello linguistico|modello di linguaggio|ia\b|"
    r"intelligenza artificiale)"
    r".{0,80}\bnon\b",
    # Russian, Japanese, Korean
    r"^(?:извините|простите|к сожалению|прошу прощения|мне жаль)[,.]? ?(?:но )?(?:как [^,]{0,40}, )?я не (?:могу|"
    r"имею|умею|в состоянии)",
    r"^(?:как|будучи|я) (?:языков|искусственн|ии\b|большая языковая).{0,80}\bне\b",
    r"^(?:大変)?(?:申し訳(?:ありません|ございません)|すみません|ごめんなさい|残念ながら)[^\n]{0,60}?(?:できません|"
    r"出来ません|いたしかねます|分かりません)",
    r"^(?:私は)?(?:ai|人工知能|言語モデル)[^。\n]{0,20}?(?:として|なので|ですので|"
    r"であるため)[^。\n]{0,60}?(?:できません|ありません|持っていません)",
    r"^(?:죄송합니다|죄송하지만|미안합니다|유감스럽게도)[^\n]{0,60}?(?:없습니다|어렵습니다|불가능합니다)",
    r"^(?:저는 )?(?:ai|인공지능|언어 모델)[^.\n]{0,20}?(?:로서|이므로|이기 때문)[^.\n]{0,60}?(?:없습니다|않습니다|"
    r"못합니다)",
)

PLACEHOLDER = (
    r"(?i)^\W*<?(?:no ?(?:input|output)|(?:in|out)put)>?\W*$",
    r"(?i)^<(?:no ?(?:input|output)|empty|none|null|nan|blank|image|video|audio|placeholder)>",
    r"(?i)^[\[(<{]+(?:your|insert|enter|add|put|write|type|the|put)? ?(?:your |the |an? |model )?"
    r"(?:answer|response|output|text|content|reply|completion|placeholder)s?(?: (?:here|goes here|text))?[\])>}]+\.?$",
    r"(?i)^(?:to ?do|tbd|tba|placeholder|lorem ipsum|nan|undefined|#n/a|\[object object\]|<nil>|"
    r"\[(?:deleted|removed)\])[.:]?$",
    r"(?i)^(?:output|answer|response|assistant|ai|bot)\s*:$",
)
"""Responses that are nothing but a placeholder."""

RESIDUE = (
    r"#{2,} ?(?:Instruction|Response|Input|Human|Assistant|User|System)s?:",
    r"<\|(?:im_start|im_end|endoftext|end_of_text|begin_of_text|assistant|user|system|eot_id|start_header_id|end)\|>",
    r"\[/?INST\]|<</?SYS>>|</?s>\s*$|<(?:start|end)_of_turn>|\{\{ ?(?:instruction|prompt|response|completion|"
    r"output) ?\}\}",
    r"(?m)^(?:\d+[.)]? *)?Instruction:[^\n]*\n(?:.*\n)*?Input:[^\n]*\n(?:.*\n)*?Output:",
)
"""Marks of a prompt template inside a response."""

PLACEHOLDER_INPUT = (
    r"(?i)^\W*(?:no ?input(?: (?:required|needed|provided|given))?|not? applicable|n/a|none|nan)\W*$|"
    r"<no ?input>?"
)

GARBLED = (
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ufffe\uffff]|"
    "\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6"
    "\u00a2]|\u00c3[\u0080-\u00bf\u0192\u2030\u0161\u20ac\u201e\u2039\u0153\u0160\u00a0]|\u00c2[\u00a0-\u00bf]"
    "|\u00ef\u00bb\u00bf|\u00ef\u00bf\u00bd|\u00d0[\u00b0-\u00bf]\u00d1[\u0080-\u008f]"
)
"""Characters that cannot be meant: controls, the replacement character, UTF-8 read as Latin-1 or Windows-1252."""

CODE = r"(?s)```.*?(?:```|$)|`[^`\n]*`|https?://\S+"

ENGLISH = (
    r"(?i)\b(?:the|of|is|are|what|how|why|which|write|create|generate|given|with|for|from|and|this|that|you|to|"
    r"find|list|name)\b"
)

KIN = (
    ("no", "da", "sv", "fo", "is"), ("id", "ms", "jv"), ("hr", "sr", "bs", "sl", "mk", "bg"), ("cs", "sk"),
    ("gl", "pt", "es", "ca", "oc", "an", "it", "la"), ("nl", "af", "fy", "lb", "de"), ("ru", "uk", "be", "kk", "ky"),
    ("fa", "ps", "ur", "ar", "ug", "ku"), ("hi", "mr", "ne", "sa"), ("zh", "ja"), ("fr", "wa", "br"), ("ga", "gd"),
    ("xh", "zu"), ("et", "fi"), ("lt", "lv"), ("az", "tr", "tk", "uz"),
)  # fmt: skip
"""Languages that the identifier may take for one another in a short text; a mismatch among them is not reported."""

_NAMES = (
    r"afrikaans|albanian|amharic|arabic|armenian|azerbaijani|basque|belarusian|bengali|bosnian|bulgarian|burmese|"
    r"catalan|"
    r"chinese|mandarin|cantonese|croatian|czech|danish|dutch|english|esperanto|estonian|finnish|french|galician|"
    r"georgian|"
    r"german|greek|gujarati|haitian|hausa|hawaiian|hebrew|hindi|hungarian|icelandic|igbo|indonesian|irish|gaelic|"
    r"italian|"
    r"japanese|kannada|kazakh|khmer|korean|kurdish|lao|latin|latvian|lithuanian|malay|malayalam|maori|marathi|"
    r"mongolian|"
    r"nepali|norwegian|pashto|persian|farsi|polish|portuguese|punjabi|romanian|russian|serbian|slovak|slovenian|"
    r"somali|"
    r"spanish|swahili|swedish|tagalog|filipino|tamil|telugu|thai|tibetan|turkish|ukrainian|urdu|uzbek|vietnamese|"
    r"welsh|"
    r"yiddish|yoruba|zulu"
)
ABOUT_LANGUAGE = (
    rf"(?i)\b(?:{_NAMES})s?\b|translat|langu(?:age|e)|lorem ipsum|multilingual|transliterat|pinyin|romaji"
    r"|traduc|traduz|tradui|traduir|idioma|inglés|ingles|español|anglais|français|übersetz|sprache|englisch|deutsch|"
    r"lingua|"
    r"перев(?:од|ед|ести)|язык|翻译|翻譯|译成|譯|英文|英语|英語|中文|汉语|漢語|日语|日文|法语|德语|俄语|韩语|"
    r"西班牙语|拼音|语言|"
    r"単語|翻訳|日本語|訳し|中国語|번역|영어|한국어|언어|ترجم|الإنجليزية|אנגלית|अनुवाद|แปล|dịch sang|tiếng"
)
"""Prompts that speak of a language may well be answered in another."""

FUNCTION_WORDS = {
    "en": r"(?i)\b(?:the|a|an|of|to|in|and|is|are|was|were|for|on|that|it|with|as|by|this|be|from|or|at|i|you|we|he|"
    r"she|they|"
    r"his|her|its|their|my|your|not|have|has|had|can|will|would|which|there|if|so|but)\b",
    "de": r"(?i)\b(?:der|die|das|ein|eine|und|ist|in|zu|den|von|mit|für|auf|nicht|es|ich|sie|er|wir|im|dem|des|sind|"
    r"als|auch)\b",
    "fr": r"(?i)\b(?:le|la|les|un|une|de|des|du|et|est|en|à|que|qui|dans|pour|pas|il|elle|je|nous|vous|sur|au|ce|par|"
    r"avec)\b",
    "es": r"(?i)\b(?:el|la|los|las|un|una|de|del|y|es|en|a|que|por|para|con|no|se|su|lo|al|como|más|son|o|me|mi)\b",
    "pt": r"(?i)\b(?:o|a|os|as|um|uma|de|do|da|e|é|em|que|para|com|não|se|no|na|por|mais|são|ou|ao|seu|sua)\b",
    "it": r"(?i)\b(?:il|lo|la|i|gli|le|un|una|di|del|della|e|è|in|a|che|per|con|non|si|da|al|sono|ma|o|ha|nel)\b",
}
"""Words that no prose of the language does without."""

CONSONANTS = "[bcdfghjklmnpqrstvwxz]{4}"

HANGING = (
    r"(?:^|\s)(?:the|a|an|and|or|of|because|although|their|its|whose|your|every|than|der|die|das|und|oder|eine|einen|"
    r"le|la|les|et|"
    r"des|du|el|los|las|y|del|il|gli|della|o|os|um|uma|и|или|что)$|[,(]$"
)
"""Last words (or marks) of a line that call for another word."""

_BREAK = r"[\pL\pN][.!?]['\")\]\u201d\u2019]?"
SENTENCE_BREAK = rf"{_BREAK}(?:\s|$)"
OPEN_SENTENCE = rf"{_BREAK}\s+['\"(\u201c]?\p{{Lu}}[\pL'\u2019-]*(?:[,;]?\s[\pL\pN'\u2019-]+){{5,}},?$"
"""A line with a full stop in it whose last sentence runs on for six words and more without one."""

ASKS_REPETITION = (
    r"(?i)\b(?:repeat|repetiti|\d+ times|(?:twice|hundred|thousand) times|over and over|refrain|chant)|"
    r"重复|重複|遍"
)
