r"""The offline model's one table of patterns: what a person may say, and what is done about it.

Patterns see one line of at most 2,000 characters with straight quotes, in which quoted texts are hidden in a private
plane of Unicode so that no pattern reads a quoted word. None nests one repetition in another over the same
characters, so that none takes long. The tests' table of sentences is the specification.
"""

import re

NAME = "offline-rules-1"
LONGEST_MESSAGE = 2_000
"""Characters of a message that the patterns read; a longer one is answered with a sentence."""
MOST_CLAUSES = 20
READS = {"list_tasks", "get_task", "search_documents", "list_documents", "read_document"}
REMEMBERED_TURNS = 6
"""How far back "it", "them" and a question of ours may lie."""

# Sentences.

HELLO = 'Hello. Tell me what you want to get done, or say "help" for examples.'
HELP = """I keep your tasks. You can say, for example:
- "Add a task to call mom tomorrow at 5pm, high priority"
- "Show me all my tasks", "What's pending?" or "What's due this week?"
- "Mark task 3 as complete", "Change task 1 to 'Call mom tonight'" or "Move task 2 to Monday"
- "Delete the meeting task" or "Delete all completed tasks\""""
WHO = f'I am {NAME}, the offline rules model: fixed rules, not a language model. Say "help" for what I can do.'
BEYOND = (
    "I can't help with that. I am the offline rules model and only look after tasks; for more, whoever runs this "
    'service has to set MODEL to a language model. Say "help" to see what I can do.'
)
UNSURE = (
    "I did not understand that. I am the offline rules model and follow plain English sentences about tasks, such "
    'as "Add a task to buy groceries" or "What\'s pending?". Say "help" for more.'
)
TOO_MUCH = "That is too much at once for the offline rules model. Please say it in several messages."
TOO_LONG = f"I am the offline rules model and read at most {LONGEST_MESSAGE:,} characters. Please say it in fewer."
NO_UNDO = "I can't undo a change or reopen a completed task. I can add it again if you tell me its title."
UNLIKE = "I can't follow conditions or exceptions, so I changed nothing. Please name the tasks by number."
PARTLY = "I did not understand all of that, so I changed nothing. Please say what to change in a message of its own."
WISH = 'I only keep tasks. Say "Add a task to …" to note that, or say which task you mean, as in "Complete task 2".'
QUESTION = "I can't answer such questions and changed nothing. Ask for example \"What's pending?\""
NO_ORDER = 'I can\'t list tasks sorted, after a date or without something. Ask for example "What is due this week?"'
LOST = {UNSURE, BEYOND, UNLIKE, PARTLY, WISH, QUESTION, NO_ORDER}
# No such change is made when another clause of the message is lost.
CHANGES = {"delete_task", "complete_task", "change", "clear"}
THERE_IS_NONE = r'There is no task \1. Say "show my tasks" to see them.'
WHAT = 'What should change? Say for example "Rename task 2 to Call mom" or "Move task 2 to Monday, high priority".'
WHICH = "Which task do you mean? Say its number or a word from its title."
ASKED = {"tag": "tagged", "query": "matching"}
MAY_NOT_READ = "This access may not read tasks."
MAY_NOT_CHANGE = "This access may read tasks but not change them, so I changed nothing."
NO_TASKS = 'You have no tasks yet. Say "Add a task to …", with what you want to do.'

# fmt: off
DONE = {"add_task": "Added", "update_task": "Updated", "complete_task": "Completed", "delete_task": "Deleted",
        "get_task": "This is"}

# Dates, priorities and the fields of a task.
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = (r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
          r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)")
_NTH = r"[0-9]{1,2}(?:st|nd|rd|th)?"
_SPAN = r"(?:[0-9]{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten) (?:minute|hour|day|week|month|year)s?"
_DATE = (rf"(?:(?:the )?day after tomorrow|tonight|(?:today|tomorrow|(?:(?:this|next|coming) )?{_DAY})"
         r"(?: (?:morning|afternoon|evening|night))?|(?:(?:the )?end of )?(?:this|next) (?:week|weekend|month|year)"
         rf"|(?:the )?end of the (?:day|week|month|year)|in {_SPAN}|{_SPAN} from now"
         rf"|(?:{_DAY},? )?(?:{_MONTH} {_NTH}|(?:the )?{_NTH}(?: of)? {_MONTH})(?:,? [0-9]{{4}})?"
         r"|the [0-9]{1,2}(?:st|nd|rd|th)|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[t ][0-9]{2}:[0-9]{2})?"
         r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4})")
_TIME = r"(?:[0-9]{1,2}(?::[0-9]{2})? ?(?:am|pm|a\.m\.|p\.m\.|o'clock)|[0-9]{1,2}:[0-9]{2}|noon|midnight)"
_WHEN = (rf"(?P<when>{_DATE}(?:,? (?:at |by |around )?{_TIME}| at [0-9]{{1,2}})?|{_TIME}(?:,? (?:on )?{_DATE})?)"
         r"(?![\w'])")
_LEAD = (r"(?:(?:(?:(?:it's|is|with|has|should be) )?(?:an? |the )?(?:due date|due|deadline)"
         r"(?: of| on| by| at| is| to|:)?|by|on|for|to|until|till|before|at) )")
_RANK = (r"(?P<rank>(?:high|highest|top|medium|normal|low|lowest|no)[- ]priority|priority:? (?:high|medium|low|none)"
         r"|urgent(?:ly)?|critical|asap|(?<=[,;(] )important|(?<=(?:a|i|')s )important)")
_FIELD = r"(?:title|name|due date|deadline|date|priority|description|notes?|tags?)"

# Words that clauses are made of.
_TASK = r"(?:tasks?|to-?dos?|reminders?)"
_NEW = r"(?:(?:an?|another|one(?: more)?|the|my) )?(?:new )?"
_DONE = r"(?:done|completed?|finished|accomplished)"
_OPEN = (r"(?:pending|open|unfinished|incomplete|undone|not (?:yet )?(?:done|completed?|finished)|to[- ]do|left"
         r"|remaining|outstanding|overdue|late|due|next)")
_DELETE = r"(?:delete|remove|erase|trash|get rid of|clear|cancel)"
_COMPLETE = r"(?:complete|finish|close|check off|tick off|cross off)"
_CHANGE = (r"(?:change|update|edit|modify|rename|set|make(?! me\b)|move|reschedule|postpone|push|delay|shift|mark|flag"
           r"|give(?! me\b)|put off)")
_VERB = rf"(?:{_DELETE}|{_COMPLETE}|{_CHANGE})"
_ASK = (r"(?:show|list|display|view|see|get|give|tell|read|print|check|count|what(?:'s|s)?|which|how many|do i have"
        r"|have i|did i|are there|is there|any|anything|find|search|look)\b")
_THIS_TASK = (rf"(?:(?:(?:the|my|all|off|of|for|{_FIELD}) )*(?:{_TASK}|completed|everything|(?:it|them|both)(?![\w'])"
              r"|#[0-9]|[0-9]+(?= as\b| to\b|,| and\b|$)|(?:that|this)(?: one| task| as\b|$))"
              r"|the .{1,60} (?:task|one)\b|[\U000f0020-\U000f007e])")
_UNLESS = (r"\b(?:if|unless|except|excluding|but|other than|not|never|almost|nearly|half|when(?:ever)?|once(?!$)"
           r"|until|while|as soon as|provided|(?<!the )(?<!due )(?<!my )(?<!tasks )(?:after|before))\b")
_NO_VERB = (rf"(?:(?:add|create|remind me|thanks|thank you)\b|(?:an?|another)(?: [\w-]+){{0,2}} {_TASK}\b"
            rf"|(?:show|list|see|view|what|which|how many)\b.{{0,60}}\b(?:{_TASK}|pending|left|due|list|completed)\b)")
_COMMAND = rf"(?:{_NO_VERB}|{_VERB} {_THIS_TASK})"
_WISH = (r"(?:(?:can|could|would|will) (?:you|i|we)|i(?: want|'d like| would like| wish)(?: you)? to|let's|let me"
         r"|help me(?: to)?|i (?:need|have) to|i must)")
_POLITE = (r"(?:(?:please|hey|hi|hello|ok|okay|so|now|then|also|and|yes|no|just|docutalk|well|actually|go ahead and"
           rf"|{_WISH})[,!:]* +)+(?=\S)")
_QUESTION = r"(?:should|have|must|need|ought|did|do|does|may|shall|will|would|why) (?:i|you|we|he|she|they|it|the)\b"
_HEAD = (rf"(?:{_COMMAND}|{_VERB}\b|what|which|how|show|list|who|help|hi\b|hello|i (?:need|have|finished)\b|don't"
         r"|tell me)")
# Begins where a run of separators begins: tried at each of them, a long run would take quadratic time.
_START = r"(?:^|(?<![\s,;(])[\s,;(]+)(?:and )?"


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


# Characters and quotes.
BLANK = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\U000f0000-\U0010ffff\s]+")
NEW_LINE = re.compile(r"\s*\n[\s*•-]*")
STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u201e", "''\"\"\"")
QUOTES = re.compile(r"\"[^\"]{1,500}\"|(?<!\w)'(?:[^']|(?<=\w)'(?=\w)){1,500}'(?!\w)")
HIDE = {code: code + 0xF0000 for code in range(0x20, 0x7F)}
SHOW = {hidden: code for code, hidden in HIDE.items()}
VERBATIM = re.compile(r"([\U000f0022\U000f0027])([^ -~]*)\1")

# The parts of a clause.
CUT = _re(rf"([.!?;]+ +|,? +(?:and|then|also|but|plus|&)(?: then| also)? +|, *)(?=(?:{_POLITE})?{_HEAD})")
POLITE, COMMAND, NO_VERB, DONT = _re(_POLITE), _re(_COMMAND), _re(_NO_VERB), _re(r"(?:don't|do not|never)\b")
TAILS = (
    _re(rf"{_START}(?:(?:with )?(?:tagged|tags?)(?: as| with)?:? |(?=#))(?P<tags>#?[^\W\d][\w-]*)$"),
    _re(rf"{_START}(?:(?:with|at|as|to|is|it's|of) )?(?:an? )?(?P<priority>{_RANK})[\s).!]*$"),
    _re(rf"{_START}{_LEAD}?(?<!every )(?<!each )(?<!last )(?P<due>{_WHEN})[\s).!]*$"),
)
LEADING = _re(rf"[\s,]*{_LEAD}?{_WHEN}(?: *[,:;]|(?= (?:to|called|named|that)\b)|$)")
LINK = _re(r"[\s:,;-]*(?:(?:to|for|called|named|titled|that says|saying|about|that)(?![\w'])[\s:]*)?")
ON_LIST = _re(rf"(?:^|\s+)(?:to|on|onto|in) (?:my|the) (?:[\w-]+ ){{0,2}}(?:list|{_TASK})(?=\s*(?:$|[:,]))")
OFF_LIST = _re(rf" (?:from|off|on|in) (?:my|the) (?:[\w-]+ ){{0,2}}(?:list|{_TASK})$")
VALUE = _re(r"(.+?)(?: (?:to be|to|as|into|with) |\s*(?:->|:|=)\s*)(.+)")
NUMBER_VALUE = _re(r"((?:task )?#?[0-9]+),? (.+)")
FIELD_OF = _re(rf"(?:the )?(?P<field>{_FIELD}) (?:of|for|on|in|to) ")
ITS_FIELD = _re(rf"(?:'s)? (?:the )?(?P<field>{_FIELD})\s*$")
IT = _re(r"(?:its?|them|those|these|both|(?:that|this)(?: one| task)?"
         r"|the (?:(?:last|latest|previous|same|new) )?(?:one|task))?")
THEM = _re(r"(?:(?:all|both)(?: of)? )?(?:them|those|these|both|all|the two)(?: tasks| ones)?")
NTH_ONE = _re(r"(?:the )?(1st|2nd|3rd|4th|first|second|third|fourth|last)(?: one| task)?")
EVERY = _re(r"\s*(?=.*\b(?:all|every|everything|each|tasks|to-?dos|items|ones|list)\b|(?:the |my )?"
            rf"(?:{_DONE}|overdue)$)(?:(?:all|every|everything|each|of|the|my|whole|entire|that are|which are|{_DONE}"
            rf"|pending|open|overdue|urgent|(?:high|medium|low)[- ]priority|{_TASK}|items?|ones?|list)(?: |$))+"
            rf"(?:{_LEAD}?{_WHEN}|#[^\W\d][\w-]*|(?:tagged|about|containing) .{{1,60}})?")
TASK_NUMBER = _re(rf"(?:(?:the|my) )?task (?:number )?([0-9]{{1,18}})(?![\w.'-])(?!.*(?: and |\b{_FIELD}\b))")
EARLIER = _re(r".*\b(?:its?|them|those|these|that|this|both|last|first|second|third)\b")
UNLESS = _re(rf".*{_UNLESS}")
RENAMES, SAYS_TASK = _re(r"(?:rename|change|update|edit|modify)\b"), _re(rf"\b(?:{_TASK}|list)\b")
NO_TASK = _re(r"task ([0-9]+) does not exist\b.*")
LATE = _re("^(?:overdue|late)$")
YES = _re(r"(?:(?:yes|yep|yeah|y|sure|confirm|do it|go ahead|ok|okay|please|delete|complete|all|them|it|of)"
          r"(?:[\s,.!]+|$))+")
FILTERS = {
    "pending": _re(rf"\b({_OPEN})\b"),
    "completed": _re(rf"\b({_DONE}|finish)\b"),
    "due_before": _re(rf"\b(overdue|late|{_WHEN})"),
    "tag": _re(r"(?:#|\btag(?:ged)? (?:as |with )?)([^\W\d][\w-]*)"),
    "query": _re(r"(?:\b(?:about|containing|matching|named|called|with the word)|^search(?: for)?|^find|^look for) "
                 r"(?!.* (?:about|containing|matching|named|called) )(.+)"),
    "rank": _re(r"\b(urgent|important|(?:high|medium|low|top)[- ]priority)"),
}
STOP = {"a", "an", "the", "my", "to", "of", "for", "and", "or", "about", "called", "named", "task", "tasks", "todo",
        "one", "with", "that", "this", "is", "in", "on", "at"}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
FIELDS = {"name": "title", "note": "description", "notes": "description", "date": "due", "due date": "due",
          "deadline": "due"}
NTHS = {"1st": 0, "first": 0, "2nd": 1, "second": 1, "3rd": 2, "third": 2, "4th": 3, "fourth": 3, "last": -1}

# The table. A clause meets the first row that fits it whole: the plan, what it acts with, the patterns.
RULES = tuple((plan, detail, _re(pattern)) for plan, detail, pattern in (
    ("say", "All right. I changed nothing.",
     r"(?:no|nope|cancel|never ?mind|stop|nothing)(?:,? (?:thanks|thank you))?"
     r"|(?:forget it|(?:don't|do not|never)(?! (?:let me )?forget\b)).*"),
    ("say", "There is nothing for me to confirm.", r"(?:yes|yep|yeah|sure|go ahead|do it|confirm)(?: please)?"),
    ("say", HELLO,
     r"how are you|(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))(?: there| docutalk| again)?"),
    ("say", "You're welcome.",
     r"(?:thanks|thank you|thx|great|perfect|awesome|cool|nice|good job|ok|okay|got it|bye|goodbye|good night)"
     r"(?:,? (?:so much|a lot|very much|you|thanks|thank you|again))?"),
    ("say", HELP, r"help(?: me| please)?|\?|commands|examples|i need (?:some )?help|how does (?:this|it) work"
     r"|what (?:can|do|else can) (?:you|i) (?:do|say|ask|help)\b(?! about| on| to).{0,40}"
     rf"|how (?:do|can|should|to) .*\b(?:{_TASK}|you|this)\b.*"),
    ("say", WHO, r"(?:who|what) are you.*|what(?:'s| is) your name|are you .*|(?:what|which) (?:ai )?model.*"),
    ("say", NO_UNDO, r"(?:undo|revert|restore|reopen|re-open|unmark|uncheck|bring back)\b.*"
     r"|(?:mark|set) .+ (?:as|to) (?:not .+|pending|incomplete|undone|open)"),
    ("say", UNLIKE, rf"(?:mark|check|tick|cross|{_DELETE}|{_COMPLETE})\b.*{_UNLESS}.*"),
    ("change", "",
     r"(?:add|attach|write) (?:an? |the )?(?P<t>(?:note|description) (?:to|for|on) .+)"),
    ("add", "",
     r"(?:add|create|make|new)(?: me)?(?: these| the following| some| my| \w+)??(?: new)? "
     r"(?P<many>tasks|to-?dos|things|reminders)\b(?P<t>.*)"),
    ("add", "",
     rf"(?:add|create|set up|write down|new(?= task)|make(?= an? | me | another ))(?: me)? {_NEW}(?:{_RANK} )?"
     r"(?:task|to-?do|reminder|item)\b(?: item)?(?: for me)?(?P<t>.*)"),
    ("add", "",
     rf"{_NEW}(?:{_RANK} )?(?:task|to-?do|reminder|note to self)(?P<t>(?: *:| to | called ).+)"),
    ("add", "",
     rf"(?:{_LEAD}?{_WHEN},? )?(?:remind me|(?:don't|do not) (?:let me )?forget|remember"
     rf"|(?!{_QUESTION})(?:i )?(?:need|have|must|ought|should|gotta)(?! (?:to )?(?:{_COMMAND}|help|a hand))(?: to)?"
     r"(?: (?:remember|not forget))?)(?P<t>(?: .+)?)"),
    ("add", "", r"(?:add|create(?=$)|put|schedule|jot down|write down)(?P<t>(?:[: ].+)?)"),
    ("say", WISH, rf"(?=.*\b{_WISH}\b){_POLITE}(?:cancel|clear|get rid of|remove|{_COMPLETE})\b"
     rf"(?! {_THIS_TASK}| (?:the|my) list\b| .* (?:from|off) (?:the|my) ).*"),
    ("clear", "",
     rf"{_DELETE} (?:the |its |my )?(?P<field>due date|deadline|date|priority|description|notes?) (?:of|from|for|on) "
     r"(?P<t>.+)"),
    ("clear", "",
     rf"{_DELETE} (?P<t>.+(?='s )|(?:the |my )?(?:task )?#?[0-9]+|its?)(?:'s)? (?P<field>due date|deadline|priority"
     r"|description|notes?)"),
    ("say", 'I can\'t take away a tag or a title, but set others: "Change the tags of task 3 to home, work".',
     rf"{_DELETE} (?:the |its |my )?(?:tags?|title|name)\b.*"),
    ("act", "delete_task", rf"{_DELETE}\b(?P<t>.*)"),
    ("act", "complete_task",
     rf"(?:mark|set|check|tick|cross|flag|(?:change|update|make|move)(?=.+ (?:to|as)(?: be)? {_DONE}$))(?: off)? "
     rf"(?P<t>.+?) (?:as |off as |off|to )?(?:be )?{_DONE}"),
    ("act", "complete_task",
     rf"(?:{_COMPLETE}|(?:i'm )?done with|i(?:'ve| have|'m| am)?(?: just| already)? (?:finished|completed|done|did)"
     r"(?: with)?)\b(?P<t>.*)"),
    ("act", "complete_task",
     rf"(?P<t>(?:task |the |my |#|(?:it|that|this)\b(?! the)).*?)"
     rf"(?:'s| is| are| has been| was) (?:now |already )?{_DONE}"),
    ("act", "get_task",
     r"(?:is|are|when is|when's|(?:tell me )?(?:more )?about|describe|did i (?:finish|complete)"
     r"|(?:show |give )?(?:me )?(?:the )?details? (?:of|for|on|about)|have i (?:finished|completed|done)"
     r"|what(?:'s| is)(?: the (?:status|priority|due date|deadline|description) (?:of|for))?"
     r"|(?:show|give|get|tell)(?: me)?|view|open|see|read) "
     rf"(?P<t>(?:task )?#?[0-9]+|the (?!{_OPEN}|{_DONE}).+ task|task \S+|it|that one)"
     rf"(?: about)?(?: (?:due|{_DONE}|pending))?"),
    ("change", "", rf"{_CHANGE}(?: back)? (?P<t>.+)"),
    ("change", "",
     r"(?P<t>(?:task |#|it\b|the ).+? (?:is|should be|has) (?:due|high|low|medium|urgent).*)"),
    ("say", NO_ORDER,
     rf"(?:(?!.*\b(?:about|containing|matching|named|called)\b){_ASK}.*\b(?:due|{_TASK}|{_DONE}|{_OPEN})\b.*?"
     r"\b(?:(?<!day )after|since|between|sort(?:ed)?|ordered|order by|without|(?:with|have|has) no|except|but not"
     rf"|not (?:due|tagged|urgent|high|low))\b|(?:sort|order) .*\b{_TASK}\b).*"),
    ("show", "",
     rf"{_ASK}.*\b(?:{_TASK}|to-?do list|my list|the list|agenda|on my plate)\b.*"),
    ("say", BEYOND, r".*\b(?:weather|poem|joke|story|song|code|python|translate|capital of|recipe|news|documents?|pdf"
     r"|files?|email)\b.*"),
    ("show", "",
     rf"(?:find|search|look for) .+|{_ASK}.*\b(?:{_DONE}|finish|{_OPEN}|everything|list|today|tomorrow)\b.*"
     r"|what should i do.*|what do i (?:need|have) to do.*"
     rf"|(?:(?:my|all|the|current|{_OPEN}|{_DONE}|urgent|(?:high|medium|low)[- ]priority) ?)*"
     r"(?:tasks|list|to-?dos|to-?do list|pending|completed|overdue|everything)(?: .*)?"),
    ("say", QUESTION, rf"{_QUESTION}.*"),
))
# fmt: on
