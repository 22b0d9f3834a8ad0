"""What the demo agent says: greetings, explanations and other set phrases."""

import re

GREETINGS = {
    "en": r"\b(hello|hi|hey|good (?:morning|evening|afternoon))\b",
    "de": r"\b(hallo|guten (?:tag|morgen|abend)|moin|servus)\b",
    "es": r"\b(hola|buenos días|buenas (?:tardes|noches))\b",
    "fr": r"\b(bonjour|bonsoir|salut)\b",
    "zh": r"你好|您好|早上好",
}
HELP = {
    "de": r"^\W*(was kannst du|wer bist du|hilfe)\b",
    "es": r"^\W*(qué puedes hacer|quién eres|ayuda)\b",
    "fr": r"^\W*(que sais-tu faire|qui es-tu|aide)\b",
    "zh": r"^\W*(你能做什么|你是谁|帮助)",
    "en": r"^\W*(help|what can you do|who are you|what are you)\b",
}
OPENING = {
    "en": "Hello! I am **Aqueduct's demo agent**: a small program outside Open WebUI, "
    "with tools of its own and no model weights. Try one of these:",
    "de": "Hallo! Ich bin der **Demo-Agent von Aqueduct**: ein kleines Programm "
    "außerhalb von Open WebUI, mit eigenen Werkzeugen und ohne Sprachmodell. "
    "Zum Ausprobieren:",
    "es": "¡Hola! Soy el **agente de demostración de Aqueduct**: un pequeño programa "
    "fuera de Open WebUI, con herramientas propias y sin modelo de lenguaje. "
    "Prueba una de estas:",
    "fr": "Bonjour ! Je suis **l'agent de démonstration d'Aqueduct** : un petit "
    "programme en dehors d'Open WebUI, avec ses propres outils et sans modèle de "
    "langage. À essayer :",
    "zh": "你好！我是 **Aqueduct 的演示智能体**：一个运行在 Open WebUI 之外的小程序，"
    "有自己的工具，不需要模型权重。可以试试：",
}
SUGGESTIONS = [
    ("🧮", "What is 17 × (23 + 4)?"),
    ("🕑", "What time is it in Tokyo?"),
    ("📚", "How do I install the suite?"),
    ("🎨", "Draw a sunrise"),
    ("💬", "What did I say first?"),
]
THOUGHTS = (
    "first I look at what was asked and then I weigh what I know about it before "
    "I decide which step comes next and whether a tool would help"
)
STORY = (
    "water finds its way through stone and valley along the quiet arches while the "
    "morning light moves slowly over the hills and the town below wakes up"
)
ONLY_FAULTS = (
    "This message holds nothing but commands ({commands}), so here are a few words to "
    "try them on: water finds its way through stone and valley, over quiet arches, "
    "past gardens and mills, until it reaches the town and the fountain in the square."
)
EXPLAIN_CALLS = """\
When a model wants a tool, many chat templates have it write the call as marked text, \
for example:

```xml
<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris"}}
</tool_call>
```

The server is meant to take that text out and hand over a real call. When it does not, \
the markers show up in the chat: a *leaked* tool call. The call above is only an \
example inside a code block, and `<tool_call>` in the middle of a sentence is not a \
call either, so nothing is run."""
NO_TOOLS = (
    "No tools were offered with this message, so I cannot call {tool}. Switch a tool "
    "on for this chat and ask again."
)
NOTHING_TO_LEAK = (
    "I am **Aqueduct's leaky demo model**: I write tool calls as text, as models do "
    "when their server misses a call. No tools were offered with this message, so "
    "there is nothing to leak. Switch a tool on for this chat and name it, for "
    "example: *use get_weather in Paris as hermes*."
)
NOT_FOUND = (
    "I could not find anything about that in this project's docs. I only know those, "
    "a calculator and a clock; say *help* to see what can be tried."
)


def greeting_language(text: str) -> str | None:
    """The language of a greeting or a call for help, or None when it is neither."""
    if len(text.split()) > 8:
        return None
    for patterns in (GREETINGS, HELP):
        for language, pattern in patterns.items():
            if re.search(pattern, text, re.IGNORECASE):
                return language
    return None


def introduction(language: str) -> str:
    """Who the agent is and what can be tried."""
    lines = [f"- {sign} {suggestion}" for sign, suggestion in SUGGESTIONS]
    return "\n".join([OPENING[language], "", *lines])


def repeat(text: str, count: int) -> str:
    """Exactly `count` words, going round those of `text`."""
    words = text.split()
    return " ".join(words[index % len(words)] for index in range(count))
