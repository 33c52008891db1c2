r"""Patterns for tasks, and the sentences used in answers. `documents` and `dates` have their own patterns.

Patterns see one line of at most 2,000 characters with straight quotes. Quoted text is shifted into a private plane of
Unicode, so that no pattern reads a quoted word. No pattern nests one repetition inside another over the same
characters, so every pattern is fast. The table of sentences in the tests specifies what the patterns must match.
"""

import re

from backend.agent.choice import OFFLINE_NAME

LONGEST_MESSAGE = 2_000
"""The most characters in a message that the patterns read. The answer to a longer message is that it is too long."""
MOST_CLAUSES = 20
READS = {"list_tasks", "get_task", "search_documents", "list_documents", "read_document"}
REMEMBERED_TURNS = 6
"""How many turns back a message may refer to, with a word such as "it" or "them" or by answering our open question."""

# Sentences.

HELLO = 'Hello. Tell me what you want to get done, or say "help" for examples.'
HELP = """I keep your tasks. You can say, for example:
- "Add a task to call mom tomorrow at 5pm, high priority"
- "Show me all my tasks", "What's pending?" or "What's due this week?"
- "Mark task 3 as complete", "Reopen task 3", "Change task 1 to 'Call mom tonight'" or "Move task 2 to Monday"
- "Delete the meeting task" or "Delete all completed tasks"
- "Undo that" or "Bring back the meeting task\""""
WHO = f'I am {OFFLINE_NAME}, the offline rules model: fixed rules, not a language model. Say "help" for what I can do.'
BEYOND = (
    "I can't help with that. I am the offline rules model and only look after tasks. For more, ask the "
    'administrator to set MODEL to a language model. Say "help" to see what I can do.'
)
UNSURE = (
    "I did not understand that. I am the offline rules model and follow plain English sentences about tasks, such "
    'as "Add a task to buy groceries" or "What\'s pending?". Say "help" for more.'
)
TOO_MUCH = "That is too much at once for the offline rules model. Please split it into several messages."
TOO_LONG = f"I am the offline rules model and read at most {LONGEST_MESSAGE:,} characters. Please shorten your message."
CAN_UNDO = (
    'I can undo what I changed in this conversation. Say "undo that" for what I did last, "bring back task 3" for a '
    'deleted task, or "redo" to take an undo back.'
)
UNDO_ONE_TURN = (
    'I undo one message at a time, the last one first. Say "undo that", and say it again to go further back.'
)
UNDO_ALONE = "I undo only in a message of its own, so I changed nothing. Please send each wish in a message of its own."
CAN_REOPEN = 'I changed nothing. To open a completed task again, say "Reopen task" with its number.'
NOTHING_TO_UNDO = "There is nothing to undo."
UNLIKE = "I can't follow conditions or exceptions, so I changed nothing. Please name the tasks by number."
PARTLY = "I did not understand all of that, so I changed nothing. Please say what to change in a separate message."
WISH = 'I only keep tasks. Say "Add a task to …" to note that, or say which task you mean, as in "Complete task 2".'
QUESTION = "I can't answer such questions, so I changed nothing. Ask for example \"What's pending?\""
BY_DATE = (
    'I can\'t choose the tasks to change by their date, so I changed nothing. Ask for example "What is due tomorrow?", '
    "then name them by number."
)
LEFT_OVER = 'I understood only part of "{}", so I changed nothing. Please name only the tasks, as in "Complete task 3".'
UNCLEAR = (
    'I did not understand "{}" there, so I did nothing. Ask for example "Show my pending tasks tagged work" or "What '
    'is due this week?"'
)
NOT_A_DATE = (
    'I did not understand "{}" as a date, so I changed nothing. Say it another way, as in "Move task 2 to December 15 '
    'at 5pm".'
)
DATE_OR_TITLE = (
    'I am not sure whether "{}" is a date or part of the title, so I changed nothing. Say "Rename task 1 to …" for a '
    'title, or "Move task 1 to …" for a date.'
)
WHICH_TITLE = "I am not sure where the new title begins, so I changed nothing. Please put it in quotes."
WHICH_TAGS = (
    'I did not understand these tags, so I changed nothing. Say for example "Add tags home and work to task 2".'
)
NOT_NEW = (
    'I added nothing, because that names a task that you have, or a field of one. Say for example "Move task 2 to '
    'Friday", "Add tag home to task 2" or "Make task 2 urgent", or put the title of a new task in quotes.'
)
NO_THEM = (
    'I added nothing, because I need the words of the task. Say for example "Add a task to call Ida" or "Create tasks '
    'from document 2".'
)
DOUBTFUL = 'I did not understand "{}" as a date.'
PERHAPS_DUE = 'I am not sure whether "{}" is the due date.'
REPEATED = 'I understood "{}" as a repetition, and tasks do not repeat yet.'
INSTEAD = (
    'I added nothing yet. Say it another way, as in "Add a task to pay rent on December 15 at 5pm", or say "yes" to '
    "add exactly {}:"
)
AS_A_NAME = 'I took "{}" as part of the title, not as a date.'
WHICH_PARTS = (
    "I am not sure where one task ends and the next begins, so I added nothing. Please put each task on a line of its "
    "own."
)
IS_IT_A_TASK = 'I did not understand that as a command. Say "yes" to add {}:'
TOO_MANY = (
    "Those are too many tasks to change or look through at once, so I changed nothing. Please name them by number."
)
NO_ORDER = 'I can\'t list tasks sorted, after a date or without something. Ask for example "What is due this week?"'
LOST = {UNSURE, BEYOND, UNLIKE, PARTLY, WISH, QUESTION, NO_ORDER, NOT_NEW, NO_THEM}
LOST |= {UNDO_ALONE, UNDO_ONE_TURN, CAN_REOPEN}
# The plans that undo, and the plans that add tasks.
UNDOES = {"undo", "undo_kind", "undo_task", "bring_back", "redo", "regret"}
ADDS = {"add", "make_tasks"}
# These changes are not made if another clause in the message was not understood.
CHANGES = {"delete_task", "complete_task", "reopen", "change", "clear", "tag", "amend", *UNDOES}
THERE_IS_NONE = 'There is no task {}. Say "show my tasks" to see them.'
WHAT = 'What should change? Say for example "Rename task 2 to Call mom" or "Move task 2 to Monday, high priority".'
# The status of a task for which the tool would change nothing.
CHANGED_ALREADY = {"complete_task": "completed", "reopen_task": "pending"}
SO_ALREADY = {
    "complete_task": "Those tasks are completed already, so I changed nothing.",
    "reopen_task": "Those tasks are open already, so I changed nothing.",
}
NOTHING_CHANGED = "All right. I changed nothing."
NOT_SURE = "I am not sure how you mean that, so I changed nothing yet."
WHICH = "Which task do you mean? Say its number or a word from its title."
ASKED = {"tag": "tagged", "query": "matching"}
MAY_NOT_READ = "This access may not read tasks."
MAY_NOT_CHANGE = "This access may read tasks but not change them, so I changed nothing."
NO_TASKS = 'You have no tasks yet. Say "Add a task to …", with what you want to do.'

# fmt: off
DONE = {"add_task": "Added", "update_task": "Updated", "complete_task": "Completed", "reopen_task": "Reopened",
        "delete_task": "Deleted", "get_task": "This is"}
VERBS = {"update_task": "change", "complete_task": "complete", "reopen_task": "reopen", "delete_task": "delete",
         "get_task": "show"}

# Dates, priorities and the fields of a task.
_MONTH = (r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
          r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)")
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
           r"|give(?! (?:me|us)\b)|put off)")
_REOPEN = r"(?:re-?open|re-?activate|un-?(?:complete|finish|check|tick|cross|mark))"
_VERB = rf"(?:{_DELETE}|{_COMPLETE}|{_REOPEN}|{_CHANGE})"
_ASK = (r"(?:show|list|display|view|see|get|give|tell|read|print|check|count|what(?:'s|s)?|which|how many|do i have"
        r"|have i|did i|are there|is there|any|anything|find|search|look)\b")
_THIS_TASK = (rf"(?:(?:(?:the|my|all|off|of|for|{_FIELD}) )*(?:{_TASK}|completed|everything|(?:it|them|both)(?![\w'])"
              r"|#[0-9]|[0-9]+(?= as\b| to\b|,| and\b|$)|(?:that|this)(?: one| task| as\b|$))"
              r"|the .{1,60} (?:task|one)\b|[\U000f0020-\U000f007e])")
_UNLESS = (r"\b(?:if|unless|except|excluding|but|other than|not|never|almost|nearly|half|when(?:ever)?|once(?!$)"
           r"|until|while|as soon as|provided|besides|apart from|aside from|minus|without|leave|leaving|keep|keeping"
           r"|rather than|(?<!the )(?<!due )(?<!my )(?<!tasks )(?:after|before))\b")
_NO_VERB = (r"(?:(?:add|create)\b(?! (?:me )?(?:all (?:of )?)?(?:them|these|those|it|this|that|everything|each)\b"
            r"(?! task))"
            rf"|(?:remind me|thanks|thank you)\b|(?:an?|another)(?: [\w-]+){{0,2}} {_TASK}\b"
            rf"|(?:show|list|see|view|what|which|how many)\b.{{0,60}}\b(?:{_TASK}|pending|left|due|list|completed)\b)")
_COMMAND = rf"(?:{_NO_VERB}|{_VERB} {_THIS_TASK})"
# Regret. A message that consists only of regret may be a wish to undo, so the rules ask.
_MISTAKE = (r"(?:(?:that|this|it)(?: was|'s| is) (?:all )?(?:a mistake|wrong|an error|an accident|not right|by accident"
            r"|by mistake|not what i (?:meant|wanted|asked for|said))|o+ps|whoo+ps|my (?:mistake|bad)"
            r"|i made a mistake|wrong (?:task|one)|i(?:'ve)? changed my mind"
            r"|(?:that|this|it)(?: was|'s| is) the wrong (?:task|one)|not that one"
            r"|(?:i|you|we)(?:'ve| have)?(?: just| only)? (?:(?:deleted|removed|completed|finished|changed|added"
            r"|renamed|moved|picked|did) (?:the wrong (?:task|one|thing|date)"
            r"|[^,.;:!?]{1,40} (?:by (?:mistake|accident)|accidentally))"
            r"|accidentally (?:deleted|removed|completed|finished|changed|added|renamed|moved) [^,.;:!?]{1,40})"
            r"|i (?:didn'?t|did not) (?:mean|want|intend)\b(?! to (?:undo|un-?do|revert|bring)\b)"
            r"(?: for)?(?: you)?(?: to(?: (?:do|delete|complete|change|remove|add|move|finish|say|rename))?)?"
            r"(?: (?:it|that|this|them|so|task [0-9]{1,9}|the [\w' -]{1,40} task))?)")
_WISH = (r"(?:(?:can|could|would|will) (?:you|i|we)|i(?: want|'d like| would like| wish)(?: you)? to|let's|let me"
         r"|help me(?: to)?|i (?:need|have) to|i must)")
_POLITE = (r"(?:(?:please|pls|plz|kindly|hey|hi|hello|ok|okay|so|now|then|also|and|yes|no|just|docutalk|well"
           r"|actually|oops|whoops|wait|sorry|hmm|oh|ah|go ahead and"
           rf"|{_WISH})[,!:]* +)+(?=\S)")
# Undoing. `_BEFORE` and `_AFTER` are courtesy and regret around a wish.
_REGRET = rf"(?:{_MISTAKE}|sorry|wait|hmm|oh|ah|no|nope|nah|actually|damn|thanks|thank you|but)"
_BEFORE = rf"(?:{_REGRET}[\s,.;:!-]++)*"
_AFTER = (rf"(?:[\s,.;:!-]++(?:because |since )?(?:{_REGRET}|for me|now|right (?:now|away)|again|once more"
          r"|one more time|too|as well|immediately|completely|please))*"
          r"(?:\s*[^\w\s\U000f0000-\U0010ffff]{1,8})?")
_UNDO = r"(?:un-?do|revert|roll ?back)"
_UNDO_IT = r"(?:un-?do|revert|roll ?back|reverse|take back)"
_ACTIONS = (r"(?:changes?|actions?|steps?|edits?|operations?|commands?|modifications?|updates?|requests?|turns?"
            r"|messages?)")
_RECENT = r"(?:(?:very )?last|latest|previous|most recent|recent|prior)"
_THOSE = r"(?:it|that|this|them|those|these)"
_DID = r"(?: (?:that )?(?:you|i|we)(?:'ve| have)?(?: just| last| only)* (?:did|made|done|changed|said|asked(?: for)?))"
_AGO = (r"(?: (?:just now|now|last|there|right now|a (?:moment|second|minute) ago|by (?:mistake|accident)"
        r"|accidentally|in (?:my|your|the|that) last (?:message|turn|answer|reply|request)))*")
_AS_IT_WAS = (r"(?:(?: to| as| like)? (?:the way|how|what|where) (?:it|that|this|they|things|everything)"
              r" (?:was|were|had been)(?: before| originally| earlier)?"
              r"| to (?:its|the|their) (?:old|former|original|previous|earlier) (?:states?|values?|versions?|titles?"
              r"|names?|(?:due )?dates?|priority))")
_AS_BEFORE = rf"{_AS_IT_WAS}?"
_LAST_TURN = (rf"(?:(?:(?:all|both|everything|each|any)(?: of)? )?{_THOSE}(?: all| both| one| ones)?"
              rf"|(?:all )?(?:of )?(?:that|this|those|these) {_ACTIONS}{_DID}?|(?:the|my|your|our) {_ACTIONS}{_DID}?"
              rf"|(?:all )?(?:of )?(?:the|my|your|our) (?:{_ACTIONS}|things|stuff)(?=.*\b(?:just|last)\b){_DID}"
              rf"|(?:what|whatever){_DID}{_AGO}|what (?:just )?happened{_AGO}"
              rf"|(?:everything|all|anything)(?: of)?(?: what)?(?=.*\b(?:just|last|now|ago)\b){_DID}{_AGO}"
              rf"|(?:my|the|that) mistake|both(?: of)?(?: the| my| your)?(?: {_ACTIONS})?)")
_LAST_CHANGE = rf"(?:the |my |your |that |our )?{_RECENT}(?: (?:{_ACTIONS}|things?|one|move))?{_DID}?"
_ON_A_LIST = r"(?: (?:to|on|onto|in|into) (?:my|the) (?:[\w-]+ ){0,2}(?:lists?|tasks|to-?dos?|reminders))"
_COUNT = r"(?:two|three|four|five|six|seven|eight|nine|ten|few|couple(?: of)?|several|[0-9]{1,9})"
_QUESTION = r"(?:should|have|must|need|ought|did|do|does|may|shall|will|would|why) (?:i|you|we|he|she|they|it|the)\b"
# Words for more than one task.
_GROUP = r"(?:tasks|to-?dos|reminders|items|things|ones|lists? of)\b"
_ITEMS = r"(?:tasks?|to-?dos?|action (?:items?|points?)|actions|next steps)"
_THEM = r"(?:all (?:of )?)?(?:them|these|those|it|this|that|everything|each(?: one)?)(?: all)?(?![\w'])(?! task)"
# An existing task, named by its number. "A task 3 days from now" does not name an existing task.
_A_TASK = (r"(?:\btasks? (?:number |no\.? |nr\.? )?#?[0-9]{1,9}\b(?! ?(?:%|am\b|pm\b|:[0-9]|/|minutes?|hours?|days?"
           r"|weeks?|months?|years?))"
           r"|\b(?:to|on|for|of|from) (?:#[0-9]+|(?:the )?tasks? (?:one|two|three|four|five|six|seven|eight|nine"
           r"|ten)\b)"
           r"|\b(?:number [0-9]+ task|[0-9]+(?:st|nd|rd|th) task)\b)")
_TAG = r"#?[^\W\d][\w-]*"
_TAG_WORDS = r"[#\w-]+(?:(?:,? and |, ?| & | )[#\w-]+){0,5}"
_SOME_TASK = r"(?:tasks? .+|#[0-9].*|(?:it|that|this|them|both|these|those)\b.*|the .+|my .+|all .+|every .+)"
_UNDONE = (r"(?:not (?:yet )?(?:\w+ )?(?:done|completed?|finished)|(?:un|in)-?(?:done|finished|completed?)|pending|open"
           r"|active|to-?do|outstanding|(?:in )?progress)")
_HEAD = (rf"(?:{_COMMAND}|{_VERB}\b|what|which|how|show|list|who|help|hi\b|hello|i (?:need|have|finished)\b|don't"
         rf"|tell me|(?:un-?do|re-?do|revert)(?: {_THOSE})?(?=[\s.!?]*$)|(?:bring|take) {_THOSE} back(?=[\s.!?]*$))")
# This matches only at the start of a run of separators, because trying each separator in a long run would take
# quadratic time.
_START = r"(?:^|(?<![\s,;(])[\s,;(]+)(?:and )?"


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


# Characters and quotes.
BLANK = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\U000f0000-\U0010ffff\s]+")
BULLET = re.compile(rf"(?i)\A\s*(?:[-*\u2022\u2013+]|\d{{1,2}}[.)](?!\s+{_MONTH}\b)|\[[ x]?\])\s+")
STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u201e", "''\"\"\"")
QUOTES = re.compile(r"\"[^\"]{1,500}\"|(?<!\w)'(?:[^']|(?<=\w)'(?=\w)){1,500}'(?!\w)")
HIDE = {code: code + 0xF0000 for code in range(0x20, 0x7F)}
SHOW = {hidden: code for code, hidden in HIDE.items()}
VERBATIM = re.compile(r"([\U000f0022\U000f0027])([^ -~]*)\1")

# The parts of a clause.
CUT = _re(rf"([.!?;]+ +|,? +(?:and|then|also|but|plus|&)(?: then| also)? +|, *)(?=(?:{_POLITE})?{_HEAD})")
POLITE, NO_VERB, DONT = _re(_POLITE), _re(_NO_VERB), _re(r"(?:don't|do not|never)\b")
# A command that follows a new task and is not part of the task's title. But "… and reopen it" is part of the title,
# because a new task is open anyway.
COMMAND = _re(rf"(?!{_REOPEN} (?:(?:all|both)(?: of)? )?(?:it|them|both|those|these|that|this)\b){_COMMAND}")
TAILS = (
    _re(rf"{_START}(?:with )?(?:the )?(?:tagged|tags?)(?: as| with)?:? "
        rf"(?P<tags>{_TAG}(?:(?:,| and|, and) {_TAG}){{0,9}})$"),
    _re(rf"{_START}(?P<tags>#[^\W\d][\w-]*)$"),
    _re(rf"{_START}(?:(?:with|at|as|to|is|(?:it|this|that)(?:'s| is)|of) )?(?:an? )?(?P<priority>{_RANK})[\s).!]*$"),
)
LINK = _re(r"[\s:,;-]*(?:(?:to|for|called|named|titled|that says|saying|about|that)(?![\w'])[\s:]*)?")
ON_LIST = _re(r"(?:(?:,| and)(?: then)? (?:add|put) (?:it|this|that))?(?:^|\s+)(?:to|on|onto|in) (?:my|the) "
              r"(?:[\w-]+ ){0,2}(?:list|tasks|to-?dos?|reminders)(?=\s*(?:$|[:,]))")
OFF_LIST = _re(rf" (?:from|off|on|in) (?:my|the) (?:(?:whole|entire|full|current|to-?do|task) )*(?:list|{_TASK})$")
COURTESY = _re(r"(?:(?:(?<!\bsay)(?<!\bsaying)[\s,;]+(?:please|pls|plz|kindly)"
               r"|[,;]\s*(?:thanks|thank you|thx|will you|would you))[\s.!?]*)+$")
HARMLESS = _re(r"(?:[\s,]+(?:for me|if you (?:can|could|would)|now|right now|right away|too|as well|already|also"
               r"|for good))+[\s.!?]*$")
MOVED = _re(r" (?:back|forward|forwards|out|ahead|over|again)$")
VALUE = _re(r"(.+?)(?: (?:to be|to|as|into|with) |\s*(?:->|:|=)\s*)(.+)")
LEVEL = _re(r"high|medium|low|normal|urgent|important|none")
NUMBER_VALUE = _re(r"((?:task )?#?[0-9]+),? (.+)")
FIELD_OF = _re(rf"(?:the )?(?P<field>{_FIELD}) (?:of|for|on|in|to) ")
ITS_FIELD = _re(rf"(?:'s)? (?:the )?(?P<field>{_FIELD})\s*$")
IT = _re(r"(?:its?|(?:that|this)(?: one| task)?|the (?:(?:latest|previous|same|new) )?(?:one|task))")
THEM = _re(r"(?:(?:all|both)(?: of)? )?(?:them|those|these|both|the two)(?: tasks| ones)?(?: all| both)?")
NTH_ONE = _re(r"(?:the )?(1st|2nd|3rd|4th|first|second|third|fourth|last)(?: one| task)?")
SEVERAL = _re(r".*\b(?:all|every|everything|each|any|anything|tasks|to-?dos|reminders|items|ones|list)\b"
              rf"|(?:the |my )?(?:{_DONE}|overdue)$")
A_TASK = _re(_A_TASK)
EARLIER = _re(r".*\b(?:its?|them|those|these|that|this|both|last|first|second|third)\b")
UNLESS = _re(rf".*{_UNLESS}")
RENAMES, SAYS_TASK = _re(r"(?:rename|change|update|edit|modify)\b"), _re(rf"\b(?:{_TASK}|list)\b")
NO_TASK = _re(r"(?:task [0-9]+ does not exist\b|the task number must be at (?:least|most)\b).*")
# "Completed" does not help to find the task to reopen, because every task that can be reopened is completed. The rules
# do not know which task was completed last.
WAS_COMPLETED = _re(rf"\A(?:the|my) {_DONE} (?=.+ (?:tasks?|ones?)\Z)")
LAST_COMPLETED = _re(rf"(?:the|my) (?:last|latest|(?:most )?recent(?:ly)?) {_DONE}(?: one| task)?")
MANY = _re(rf"(?:{_POLITE})?(?:add|create|make|new|here are|put)(?: me)?(?: these| the following| some| my| all(?: of)?"
           r"| \w+)??(?: new)? (?:tasks|to-?dos|things|reminders|items|(?:these|the following)(?=:))\b"
           r"(?: (?:to|on|onto) (?:my|the) (?:[\w-]+ ){0,2}(?:list|tasks))?(?: for me)?(?: please)? *[:.]?")
# The start of a single request such as "Extract the action items from X and add them as tasks".
EXTRACTS = _re(rf"(?:{_POLITE})?(?:extract|pull|find|get|take|list|show|read|open|go through|scan|look|search|check"
               r"|collect|gather|identify|process|analy[sz]e|summari[sz]e)\b")
AS_TASKS = _re(rf"(?:{_POLITE})?(?:(?:add|put|save|turn|make|create|write|note)\b(?: down)?(?: me)? {_THEM}.*"
               rf"|(?:create|make|add)(?: the| some| new| all)* {_ITEMS}(?: (?:from|of|for|out of) (?:it|me"
               rf"|{_THEM}))?)")
# Answers to one of our questions.
_AGREED = (r"(?:yes|yep|yeah|yup)(?:,? (?:i (?:do|am|want(?: that| to)?)|it is|they are))?|sure(?: thing)?|of course"
           r"|absolutely|definitely|certainly|confirm(?:ed)?|go ahead|go for it|please do|do it|do so"
           r"|that(?:'s| is) (?:right|correct|it|fine|the one)")
_YES_WORDS = rf"{_AGREED}|y|ok|okay|please|correct|right|exactly|thanks|thank you"
_MANY_OF_THEM = r"(?:all(?: of)? |both(?: of)? )?(?:them|these|those)(?: all)?|all|both"
_THESE = (r"(?:(?:all(?: of)? |both(?: of)? )?(?:them|these|those|it|this|that)(?: all| both| one| ones| tasks?)?"
          r"|all(?: tasks)?|both|everything)")
_NO = (r"no|nope|nah|cancel|never ?mind|stop|nothing|none(?: of (?:them|these|those))?"
       r"|neither(?: one| of (?:them|these|those))?|no way|(?:no,? )?(?:not now|don't|do not)")
# The ways to say yes, by the tool and by whether the question is about one task.
YES = {(tool, is_one): _re(
    rf"(?!(?:thanks|thank you)\b|please[\s,]+(?!do\b|go\b|confirm\b))(?:{_YES_WORDS})"
    rf"(?:[\s,.!]+(?:{_YES_WORDS}|{verbs}|as|to|an?|my|new|list|all|both|of|them|these|those|it|this|that|ones?|the|tasks?"
    r"|everything)(?=[\s,.!]|$))*"
    rf"|(?:please )?(?:{verbs}) (?:{'it|(?:this|that) one' if is_one else _MANY_OF_THEM})"
    r"(?: (?:as|to) (?:my |the |an? )?(?:new )?(?:tasks?|(?:task |to-?do )?list))?(?:[\s,]+please)?")
    for tool, verbs in (
        ("add_task", "add|create"),
        # "Cancel" and "clear" are left out, because they may withdraw the request.
        ("delete_task", "delete|remove|erase|trash"),
        ("complete_task", _COMPLETE),
        ("reopen_task", _REOPEN),
        ("update_task", "change|update"),
        ("undo", "undo|restore|bring back"),
    ) for is_one in (True, False)}
NO = _re(rf"(?:{_NO}|(?:cancel|stop) {_THESE})(?:,? (?:thanks|thank you|please))?")
# While a question is open, these words neither answer it nor make a new request.
NO_ANSWER = _re(rf"(?!thank)(?:{_YES_WORDS})|(?:please )?(?:{_VERB}|add|create)(?: {_THESE})?|{_THESE}"
                r"|(?:yes|yep|yeah|yup|go ahead|do it|please do)\b.*")
BEGINS_WITH_YES = _re(r"\A(?:yes|yep|yeah|yup|ok|okay|sure)[\s,]+")
AGREES = _re(r"(?:yes|yep|yeah|yup|sure|go ahead|do it|please do)\b")
AND_THEN = _re(r"[\s,]*(?:[.!;]|(?:and|then|also|plus|&)\s)")
# A reminder about the task that was added just before: "… and remind me tomorrow".
REMINDS = _re(r"remind me(?: (?:about|of) (?:it|that|this|them))?(?P<when>\b.*?)"
              r"(?: (?:about|of) (?:it|that|this|them))?")
OOPS = _re(rf"{_REGRET}(?:[\s,.!]+{_REGRET})*")
# Undoing: words that ask whether something can be undone, the kinds of changes with their tools, and deleted tasks.
MAY_UNDO = _re(rf"(?:{_POLITE})?(?:can|could|may) (?:i|we)\b")
ASKS_YOU = _re(r".*\b(?:(?:can|could|would|will) you|please|pls|plz)\b")
KINDS = tuple((_re(pattern), tools) for pattern, tools in (
    (r"delet|remov", ("delete_task",)),
    (r"complet|finish", ("complete_task",)),
    (r"add|creat", ("add_task", "create_tasks_from_document")),
    (r"re-?open", ("reopen_task",)),
    (r"re-?nam|re-?schedul|mov|postpon", ("update_task",)),
    (r"", ("update_task", "complete_task", "reopen_task")),
))
DELETED = _re(r"(?:(?:the|my|that|this|all|those|these|last|just|recently|accidentally) )*"
              r"(?:deleted|removed|erased|lost)\b")
I_DELETED = _re(r" (?:that |which )?(?:you|i|we)(?:'ve| have)?(?: just| last| accidentally)* (?:deleted|removed|erased)"
                r"(?: just now| last| by (?:mistake|accident)| accidentally)?$")
ALL_DELETED = _re(r"(?:everything|all|(?:all )?(?:of )?(?:the |my )?tasks)")
THE_DELETED = _re(r"(?:one|task|(?:the )?last(?: one| task)?)?")
ON_LIST_AGAIN = _re(rf"{_ON_A_LIST}$")
CHANGED_NOTHING = _re(r"there is nothing to undo\b.*")
COUNTS_NO_MORE = _re(r"(?:there is nothing to undo|that was undone before)\b.*")
UNDONE_ROWS = {"restored": "is back", "changed back": "has its former values", "removed": "is removed"}
# A statement about a task, not a command.
STATES = _re(rf"(?!(?:{_VERB}|check|tick|cross|open)\b)\S")
MAKES_LIST = _re(r"\A(?:make|create)(?: me| us)?(?: an?| the| my)? list of\b")
SHOW_THEM = _re(r"(?:show|list|find|view|see|get|open|display|read|give|look for|search)(?: me| for)? ")
# The parts of a question or selection. Words that are in no such part and not in FILLER are searched for in tasks.
QUERY = _re(r"\b(?:with(?= .+ in (?:the|its|their) (?:title|name|description))|with the words?|about|containing"
            r"|matching"
            r"|mentioning|including|named|called|that (?:have|has|contains?|mentions?|says?"
            r"|includes?))(?: the words?)? (?!.* (?:about|containing|matching|named|called) )"
            r"(?P<query>.+?)(?: in (?:it|them|(?:its|their|the) (?:title|name|description)s?))?[\s.!?]*$")
TAGGED = _re(r"(?:#|\b(?:with |have |has )?(?:the )?tag(?:s|ged)? (?:as |with )?#?)(?P<tag>[^\W\d][\w-]*)")
OF_RANK = _re(r"\b(?:urgent|important|critical|(?:with |of |at )?(?:an? )?(?:high|highest|top|medium|normal|low|lowest"
              r"|no)[- ]priority|priority(?: is|:)? (?:high|medium|low|none))\b")
OVERDUE = _re(r"\b(?:overdue|late)\b")
TO_DO = _re(rf"\b(?:{_OPEN}|(?:have|need|got|want|left) to (?:still )?(?:do|finish|complete|get done|work on"
            rf"|accomplish)"
            r"|(?:should|must|can|do) i (?:still )?(?:do|finish|complete|work(?: on)?|start(?: with)?|tackle)"
            r"|(?:is|are|was|were|has|have)n't (?:yet |been )*(?:done|completed?|finished)|to finish|to complete)\b")
WAS_DONE = _re(rf"\b(?:{_DONE}|finish|ticked off|checked off)\b")
CONDITION = _re(r"\b(?:or|except|without|but|not|between|since|besides|than|unless|if)\b")
SAYS_WHEN = _re(r"(?:today|tomorrow|tonight|yesterday|mon|tues|wednes|thurs|fri|satur|sun)(?:day)?(?:'s)?"
                r"|(?:early|late)|(?:morning|afternoon|evening|night|noon|week|weekend|month)(?:ly|'s)?|next|this|last"
                r"|daily|\d+(?::\d\d)?(?:am|pm)")
FILLER = frozenset(re.findall(r"\S+", """
    a all also an and any are each entire every everything from have i in is item items just list lists me mine my
    of off on one ones our own please reminder reminders task tasks that the there these those to-do to-dos todo
    todos which whole"""))
# Further words in a question that say nothing about the tasks.
ASKING = frozenset(re.findall(r"\S+", """
    again agenda am anything as at be been before by can check coming could count currently did display do does
    doing due else find first for get give got had happening has hello hey hi how i'd i'll i'm i've it let look
    many might more most much must need next now ok okay out overview planned plate print read right s say schedule
    scheduled search see should show so some still summary tell thank thanks that's them then there's they thing
    things this to up us view want was we what what's whats when where who will with would yet you your"""))
NUMBERED = {"task", "tasks", "todo", "todos", "to-do", "to-dos", "reminder", "reminders", "item", "items", "number",
            "numbers", "no", "no.", "nr", "nr.", "id", "ids"}
STOP = {"a", "an", "both", "the", "my", "to", "of", "for", "and", "or", "about", "called", "named", "task", "tasks",
        "todo", "one", "with", "that", "this", "is", "in", "on", "at"}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
FIELDS = {"name": "title", "note": "description", "notes": "description", "date": "due", "due date": "due",
          "deadline": "due"}
NTHS = {"1st": 0, "first": 0, "2nd": 1, "second": 1, "3rd": 2, "third": 2, "4th": 3, "fourth": 3, "last": -1}

# The table of rules: plan, detail, pattern. A clause selects the first row whose pattern matches the whole clause.
RULES = tuple((plan, detail, _re(pattern)) for plan, detail, pattern in (
    ("say", NOTHING_CHANGED,
     rf"(?:{_NO})(?:,? (?:thanks|thank you|please))?"
     r"|(?:forget it|(?:don't|do not|never)(?! (?:let me )?forget\b)).*|(?:there(?:'s| is) )?no need (?:to|for)\b.*"
     rf"|i (?:don't|do not) (?:want|need)(?: you)? to (?:{_UNDO}|restore|bring back)\b.*"),
    ("say", "There is nothing for me to confirm.", rf"(?:{_AGREED})(?:,? (?:please|thanks|thank you|i do))?"),
    ("say", HELLO,
     r"how are you|(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))(?: there| docutalk| again)?"),
    ("say", "You're welcome.",
     r"(?:thanks|thank you|thx|great|perfect|awesome|cool|nice|good job|ok|okay|got it|bye|goodbye|good night)"
     r"(?:,? (?:so much|a lot|very much|you|thanks|thank you|again))?"),
    ("say", CAN_UNDO,
     rf"(?:how (?:do|can|could|should|would) (?:i|you|we)|how to|is it possible to|are you able to"
     rf"|what can (?:i|you|we)) (?:{_UNDO}|bring back|restore|un-?delete)\b.*"
     rf"|(?:is|do you have) (?:there )?(?:an? )?undo\b.*|(?:can|could|what can|which changes can)(?: {_THOSE}| changes?"
     r"| a change| deletions?| a deletion)? be (?:undone|taken back|restored|brought back)"
     rf"|(?:can|could) (?:you|i|we) (?:also )?(?:{_UNDO}|bring back|restore) (?:things|changes|tasks|stuff|something"
     r"|anything|a change|a task|deleted tasks|a deleted task|deletions)"),
    ("say", HELP, r"help(?: me| please)?|\?|commands|examples|i need (?:some )?help|how does (?:this|it) work"
     r"|what (?:can|do|else can) (?:you|i) (?:do|say|ask|help)\b(?! about| on| to).{0,40}"
     rf"|how (?:do|can|should|to) .*\b(?:{_TASK}|you|this)\b.*"
     rf"|(?:can|could) (?:i|you|we) (?:also )?{_VERB} (?:tasks|to-?dos|a task)"),
    ("say", WHO, r"(?:who|what) are you.*|what(?:'s| is) your name|are you .*|(?:what|which) (?:ai )?model.*"),
    ("show", "",
     r"(?:(?:make|give|create)(?: me| us)?(?: an?| the| my)? list of|give(?: us)?|(?=the|my)) ?"
     rf"(?:(?:all|the|my|of) ?)*(?:(?:{_OPEN}|{_DONE}) )*{_GROUP}"
     rf"(?: (?:(?:that|which)(?: are|'re) )?(?:still )?(?:{_OPEN}|{_DONE})(?: yet)?)?"),
    ("reopen", "reopen_task", rf"{_REOPEN}\b(?: off)?(?P<t>.*?)(?: (?:as |off as |off )?(?:be )?{_DONE})?(?: again)?"),
    ("reopen", "reopen_task",
     rf"(?!rename|give|make (?:an?|me|sure)\b|.*\b(?:title|name|description|notes?)\b"
     rf"|.*\b(?:that|which)(?: (?:are|is|were)|'re|'s)(?: still)? {_UNDONE}$)"
     rf"{_CHANGE} (?:the status of )?(?P<t>.+?)(?:'s)?(?: status)?(?: back)?"
     rf"(?: (?:as|to|into|be))?(?: be)? {_UNDONE}(?: again)?"),
    ("reopen", "reopen_task",
     r"(?!.*\banything\b)(?:i|we)(?: still)?(?:'ve|'m|'re| have| had| did| am| are| was| were)?(?: still)?"
     r"(?:n'?t| not| never)(?: yet| actually| really)? "
     rf"(?:finish|complete|do|{_DONE})\b(?: with)?(?P<t>.*?)(?: yet| after all)?"),
    ("reopen", "reopen_task",
     rf"(?!(?:the|my) (?:.* )?{_GROUP}(?! #?[0-9]))"
     r"(?P<t>task .+?|tasks (?=#?[0-9]).+?|[0-9]+|#.+?|(?:the|my) .+?|it|that|this)"
     r"(?:'s| is| was| are| has| have)?(?:n'?t| not)(?: been)?(?: yet| actually| really)? "
     rf"{_DONE}(?: yet| after all)?"),
    ("reopen", "reopen_task", r"open (?P<t>(?:task |#|the |my |it\b|that\b).*) again"),
    ("redo", "",
     rf"{_BEFORE}(?:re-?do(?: {_THOSE}(?: all| both)?| (?:the |my )?(?:{_RECENT} )?(?:{_ACTIONS}|un-?do))?"
     rf"|ctrl ?[+-] ?y){_AFTER}"),
    ("redo", "undo",
     rf"{_BEFORE}(?:{_UNDO_IT}|cancel) (?:the |that |this |my |your )(?:{_RECENT} )?(?:un-?do(?:ing)?|reversal){_AFTER}"
     rf"|{_BEFORE}{_UNDO_IT} what(?: you| i)(?: just)? undid{_AFTER}|{_BEFORE}un-?undo(?: {_THOSE})?{_AFTER}"
     rf"|{_BEFORE}take (?:the|that|your) (?:{_RECENT} )?undo back{_AFTER}"),
    ("say", UNDO_ONE_TURN,
     rf"{_BEFORE}(?:{_UNDO_IT}|take) (?:everything|all|every {_ACTIONS}"
     rf"|all (?:of )?(?:the |my |your |our )(?:{_ACTIONS}|things)(?!.*\bjust\b)"
     rf"|(?:the |my |your |all )?(?:{_RECENT} )?{_COUNT} (?:{_RECENT} )?(?:{_ACTIONS}|things|times|ones)"
     rf"|{_LAST_TURN} (?:twice|(?:{_COUNT}) times|{_COUNT} steps))"
     rf"(?:(?!.*\b(?:just|ago)\b){_DID})?(?: back| so far| today| (?:in|from) this (?:conversation|chat))*{_AFTER}"
     rf"|{_BEFORE}{_UNDO} (?:twice|{_COUNT} (?:times|steps|changes))"),
    ("undo", "last",
     rf"{_BEFORE}(?:{_UNDO_IT}|cancel|scratch|take) {_LAST_CHANGE}(?: back)?{_AFTER}"),
    ("undo", "",
     rf"{_BEFORE}(?:{_UNDO}|{_UNDO_IT} {_LAST_TURN}{_AS_BEFORE}|(?:(?:i )?take|roll|turn) {_LAST_TURN} back"
     rf"|scratch {_THOSE}"
     r"|(?:cancel|discard) (?:that|this|the|my|your|those|these) (?:changes?|edits?|modifications?)"
     rf"|(?:change|set|switch|turn) (?:{_THOSE}|everything|things) back{_AS_BEFORE}"
     rf"|(?:put|bring|get|set|change|make|leave) (?:{_THOSE}|everything|things)(?: back)?{_AS_IT_WAS}"
     rf"|(?:{_UNDO_IT}|cancel) (?:the |that |my |your )(?:{_RECENT} )?re-?do"
     rf"|ctrl ?[+-] ?z|(?:go|step) back (?:one|a) step|(?:do|make|hit|press|use) (?:an |the )?undo){_AFTER}"),
    ("undo_kind", "",
     rf"{_BEFORE}(?:{_UNDO_IT}) (?:the |my |your |that |this |those )?(?P<last>{_RECENT} )?"
     r"(?P<kind>deletions?|delet(?:e|ing)|removals?|remov(?:e|ing)|complet(?:e|ing|ions?)|finishing"
     r"|add(?:ing|itions?)?|creat(?:ing|ions?)|re-?nam(?:e|ing)|renames?|re-?schedul(?:e|ing)|mov(?:e|ing)|postponing"
     r"|re-?open(?:ing)?|(?:changes?|changing|edits?|editing|updates?|updating)(?= ))\b"
     rf"(?: (?:of|to|on|for|in|from)\b)?(?P<t>(?: .+?)?){_AFTER}"),
    ("bring_back", "",
     rf"{_BEFORE}(?:restore|un-?(?:delete|remove|erase|trash|cancel)|recover|retrieve"
     rf"|bring back|put back|add back|re-?instate|resurrect|give me back)(?P<t>\b.*?){_AFTER}"),
    ("bring_back", "",
     rf"{_BEFORE}(?:put|bring|get|have|take|return|send) (?P<t>.+?) back{_ON_A_LIST}?"
     rf"{_AS_BEFORE}{_AFTER}"
     rf"|{_BEFORE}(?:i (?:want|need)|i'd like|give me) (?!to\b|an?\b)(?P<t2>.+?) back{_AFTER}"),
    ("bring_back", "",
     rf"(?:re-?)?add (?P<t>the .+|it|that|this|them) (?:back|again){_ON_A_LIST}?"),
    ("undo_task", "",
     rf"{_BEFORE}(?:{_UNDO} (?P<t>.+?)|(?:move|change|set) (?P<t2>.+?) back){_AS_BEFORE}{_AFTER}"),
    ("say", CAN_REOPEN, r"(?:start|activate) .+ again"),
    ("regret", "",
     rf"{_BEFORE}{_MISTAKE}{_AFTER}|i (?:didn'?t|did not) (?:mean|want|intend)(?: you)? to {_UNDO}\b.*"),
    ("say", UNLIKE, rf"(?:mark|check|tick|cross|{_DELETE}|{_COMPLETE})\b.*{_UNLESS}.*"),
    ("change", "",
     r"(?:add|attach|write) (?:an? |the )?(?P<t>(?:note|description) (?:to|for|on) .+)"),
    ("say", WISH,
     r"(?:i|we)(?:'ve|'ll|'m| will| am)? (?:(?:still|really|just|also) )*(?:need|have|got|must|should|ought|want|plan"
     rf"|going|hope)(?: to)? {_COMPLETE} {_THIS_TASK}.*"),
    ("tag", "",
     rf"(?!.*\b{_TASK} (?:to|for|called|named)\b)(?:add|put|attach)(?: an?| the| another)? (?P<tags>{_TAG_WORDS})"
     r" (?:tags?|labels?) (?:to|on|onto) (?P<t>.+)"),
    ("tag", "",
     rf"(?:add|put|attach)(?: an?| the)? (?:tags?|labels?):? (?P<tags>{_TAG_WORDS}) (?:to|on|onto|for) (?P<t>.+)"),
    ("tag", "", rf"(?:add|put|attach) (?P<tags>#{_TAG_WORDS}) (?:to|on|onto) (?P<t>.+)"),
    ("tag", "", rf"(?:tag|label) (?P<t>.+?)(?: with| as|:|(?= #)) (?:the tags? )?(?P<tags>{_TAG_WORDS})"),
    ("amend", "priority",
     r"(?:add|put|set|attach)(?: an?| the)? (?P<v>(?:high|highest|top|medium|normal|low|lowest|no|urgent)[- ]priority"
     rf"|urgent|priority:? (?:of )?(?:high|medium|normal|low|none)) (?:to|on|for) (?P<t>{_SOME_TASK})"),
    ("amend", "due",
     r"(?:add|put|set|attach)(?: an?| the)? (?:due date|deadline|date)(?: of| on| for| at| by|:)? (?P<v>.{1,60}?) "
     r"(?:to|for|on) (?P<t>task (?:number )?[0-9]+|#[0-9]+|it|that one|the .+ task)"),
    ("amend", "due",
     r"(?:add|put|set|attach)(?: an?| the)? (?:due date|deadline|date) (?:to|on|for|of) "
     r"(?P<t>task (?:number )?[0-9]+|#[0-9]+|it|that one|the .+? task)(?: of| for| on| at| by| to|:|,)* (?P<v>.+)"),
    ("say", NOT_NEW,
     r"(?:add|put|attach)(?: an?| the| some| another| more)? (?:(?:high|medium|low|top|normal|urgent)[- ]priority"
     r"|priority"
     r"|due date|deadline|tags?|labels?|sub-?tasks?|urgent(?= (?:to|for|on) ))\b"
     r"(?! (?:new )?(?:tasks?|to-?dos?|reminders?|items?)\b).*"
     r"|(?:add|write) (?:an? |the |some )?(?:notes?|descriptions?|comments?|titles?|names?)"
     rf"|(?!.*\b{_TASK} (?:to|that|called|named)\b|.*\blist\b)(?:add|put|attach) .+ (?:to|on|onto|for)"
     r" (?:the|my|that|this) .{1,60} task"),
    ("change", "", r"(?:schedule|put|plan) (?P<t>(?:task (?:number )?[0-9]+|#[0-9]+)\b.+)"),
    ("say", NO_THEM,
     r"(?:add|create|make|extract|get|find)(?: me)?(?: all| the| some| any| my)* (?:action (?:items?|points?))"
     rf"|(?:add|create|make|put|save|note|turn)(?: down)?(?: me)? {_THEM}(?: (?:as|to|into|in|on|onto) .*)?"),
    ("add", "",
     r"(?:add|create|make(?! (?:all|my)\b)|new)(?: me)?(?: these| the following| some| my| \w+)??(?: new)? "
     r"(?P<many>tasks|to-?dos|things|reminders)\b(?! #?[0-9])(?P<t>.*)"),
    ("add", "", r"(?:add|create)(?: me)? (?P<many>these|the following):(?P<t>.+)"),
    ("add", "",
     rf"(?:add|create|set up|write down|new(?= task)|make(?= an? | me | another ))(?: me)? {_NEW}(?:{_RANK} )?"
     r"(?:task|to-?do|reminder|item)\b(?: item)?(?: for me)?(?P<t>.*)"),
    ("add", "",
     rf"{_NEW}(?:{_RANK} )?(?:task|to-?do|to do(?= *:)|reminder|note to self)(?P<t>(?: *:| to | called ).+)"),
    ("add", "",
     r"(?:remind me|(?:don't|do not) (?:let me )?forget|remember"
     rf"|(?!{_QUESTION})(?:i )?(?:need|have(?= (?:got )?(?:to|an?)\b)(?: got)?|(?:must|ought|should)(?! (?:to )?have\b)"
     rf"|gotta)(?! (?:to )?(?:{_COMMAND}|help|a hand))(?: to)?"
     r"(?: (?:remember|not forget))?)(?P<t>(?: .+)?)"),
    ("add", "", r"(?:add|create(?=$)|put|schedule|jot down|write down)(?: this(?=:))?(?P<t>(?:[: ].+)?)"),
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
     rf"(?P<t>(?:task |tasks (?=#?[0-9])|the |my |#|(?:it|that|this)\b(?! the)).*?)"
     rf"(?:'s| is| are| has been| have been| was) (?:now |already )?{_DONE}"),
    ("act", "get_task",
     r"(?:(?:is|are)(?:n't)?|when is|when's|(?:tell me )?(?:more )?about|describe|did i (?:finish|complete)"
     r"|(?:show |give )?(?:me )?(?:the )?details? (?:of|for|on|about)|have i (?:finished|completed|done)"
     r"|what(?:'s| is)(?: the (?:status|priority|due date|deadline|description) (?:of|for))?"
     r"|(?:show|give|get|tell)(?: me)?|view|open|see|read) "
     rf"(?P<t>(?:task )?#?[0-9]+|the (?!{_OPEN}|{_DONE}).+ task|task (?!list\b)\S+|it|that one)"
     rf"(?: about)?(?: (?:{_OPEN}|{_DONE})(?: yet)?)?"),
    ("change", "", rf"{_CHANGE}(?: back)? (?P<t>.+)"),
    ("change", "",
     r"(?P<t>(?:task |#|it\b|the ).+? (?:is|should be|has) (?:due|high|low|medium|urgent).*)"),
    ("say", NO_ORDER,
     rf"(?:(?!.*\b(?:about|containing|matching|named|called)\b){_ASK}.*\b(?:due|{_TASK}|{_DONE}|{_OPEN})\b.*?"
     r"\b(?:(?<!day )after|since|between|by (?:priority|date|due date|name|title|tag)|sort(?:ed)?|ordered"
     r"|order by|without|(?:with|have|has) no|except|but not"
     rf"|not (?:due|tagged|urgent|high|low))\b|(?:sort|order) .*\b{_TASK}\b).*"),
    ("show", "",
     rf"{_ASK}.*\b(?:{_TASK}|to-?do list|my list|the list|agenda|on my plate)\b.*"),
    ("say", BEYOND, r".*\b(?:weather|poem|joke|story|song|code|python|translate|capital of|recipe|news|documents?|pdf"
     r"|files?|email)\b.*"),
    ("show", "",
     rf"(?:find|search|look for) .+"
     rf"|{_ASK}.*\b(?:{_DONE}|finish|{_OPEN}|everything|list|today|tomorrow|urgent|important)\b.*"
     r"|what (?:do|have|should|must|am) i\b.*|what(?:'s| is) (?:on|planned|scheduled|coming|happening|there)\b.*"
     rf"|(?:(?:my|all|the|current|{_OPEN}|{_DONE}|urgent|(?:high|medium|low)[- ]priority) ?)*"
     r"(?:tasks|list|to-?dos|to-?do list|pending|completed|overdue|everything)(?: .*)?"),
    ("say", QUESTION, rf"{_QUESTION}.*"),
))
# fmt: on


def on_one_line(text: object) -> str:
    """Return a text on one line, with single spaces between words and no spaces at its ends."""
    return BLANK.sub(" ", str(text)).strip()


def shown(text: str) -> str:
    """Return a text in which the characters that `HIDE` hid are readable again."""
    return text.translate(SHOW)
