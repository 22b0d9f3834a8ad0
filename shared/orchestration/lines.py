"""What the buttons write into chats and tell the models, in each language.

Here and in `texts.py`: to add a language, add its code to every entry; what is
missing appears in English. Fields: previous, next, speaker, listener (names of
models), number, turns, goal, phrase, link (in Markdown).
"""

CHAT_LINES: dict[str, dict[str, str]] = {
    "handover_line": {
        "en": "(The answer above is by {previous}.)",
        "de": "(Die Antwort oben ist von {previous}.)",
        "es": "(La respuesta anterior es de {previous}.)",
        "fr": "(La réponse ci-dessus est de {previous}.)",
        "zh": "（上面的回答来自 {previous}。）",
    },
    "please_continue": {
        "en": "Please continue.",
        "de": "Bitte mach weiter.",
        "es": "Continúa, por favor.",
        "fr": "Continue, s'il te plaît.",
        "zh": "请继续。",
    },
    "opinion_line": {
        "en": "The answer above is by another model. Give your own answer to the question.",
        "de": "Die Antwort oben ist von einem anderen Modell. Gib deine eigene Antwort auf die Frage.",
        "es": "La respuesta anterior es de otro modelo. Da tu propia respuesta a la pregunta.",
        "fr": "La réponse ci-dessus est d'un autre modèle. Donne ta propre réponse à la question.",
        "zh": "上面的回答来自另一个模型。请给出你自己的回答。",
    },
    "talk_line": {
        "en": "({speaker} answers {listener}, turn {number} of {turns}.)",
        "de": "({speaker} antwortet {listener}, Runde {number} von {turns}.)",
        "es": "({speaker} responde a {listener}, turno {number} de {turns}.)",
        "fr": "({speaker} répond à {listener}, tour {number} sur {turns}.)",
        "zh": "（{speaker} 回应 {listener}，第 {number} 轮，共 {turns} 轮。）",
    },
    "talk_goal": {
        "en": "Goal: {goal}",
        "de": "Ziel: {goal}",
        "es": "Objetivo: {goal}",
        "fr": "But : {goal}",
        "zh": "目标：{goal}",
    },
    "talk_phrase": {
        "en": "When you have nothing more to say, write: {phrase}",
        "de": "Wenn du nichts mehr zu sagen hast, schreibe: {phrase}",
        "es": "Cuando no tengas nada más que decir, escribe: {phrase}",
        "fr": "Quand tu n'as plus rien à dire, écris : {phrase}",
        "zh": "没有更多要说的时候，请写：{phrase}",
    },
    "talk_system": {
        "en": "You are {speaker}, in a conversation with {listener}. What the user says last are the words of {listener}: answer them.",
        "de": "Du bist {speaker} und sprichst mit {listener}. Was der Nutzer zuletzt sagt, sind die Worte von {listener}: antworte darauf.",
        "es": "Eres {speaker} y conversas con {listener}. Lo último que dice el usuario son las palabras de {listener}: respóndele.",
        "fr": "Tu es {speaker} et tu parles avec {listener}. Ce que l'utilisateur dit en dernier sont les mots de {listener} : réponds-y.",
        "zh": "你是 {speaker}，正在与 {listener} 对话。用户最后说的是 {listener} 的话，请回应。",
    },
    "new_chat_line": {
        "en": "(Continued from {link}. The answer above is by {previous}.)",
        "de": "(Fortsetzung von {link}. Die Antwort oben ist von {previous}.)",
        "es": "(Continuación de {link}. La respuesta anterior es de {previous}.)",
        "fr": "(Suite de {link}. La réponse ci-dessus est de {previous}.)",
        "zh": "（接自 {link}。上面的回答来自 {previous}。）",
    },
    "summary_line": {
        "en": "(Continued from {link}, with {previous}. What was said there, in short:)",
        "de": "(Fortsetzung von {link}, mit {previous}. Was dort gesagt wurde, in Kürze:)",
        "es": "(Continuación de {link}, con {previous}. Lo que se dijo allí, en breve:)",
        "fr": "(Suite de {link}, avec {previous}. Ce qui y fut dit, en bref :)",
        "zh": "（接自 {link}，当时与 {previous} 对话。内容摘要：）",
    },
    "onward_line": {
        "en": "*Continued in {link}, with {next}.*",
        "de": "*Fortgesetzt in {link}, mit {next}.*",
        "es": "*Continúa en {link}, con {next}.*",
        "fr": "*Se poursuit dans {link}, avec {next}.*",
        "zh": "*已在 {link} 中与 {next} 继续。*",
    },
    "summary_prompt": {
        "en": "Summarise this conversation for somebody who has to continue it: what was asked, what was found or decided, what is still open. Keep names, numbers and code. Write the summary only.",
        "de": "Fasse dieses Gespräch für jemanden zusammen, der es fortsetzen soll: was gefragt wurde, was gefunden oder entschieden wurde, was offen ist. Behalte Namen, Zahlen und Code bei. Schreibe nur die Zusammenfassung.",
        "es": "Resume esta conversación para quien deba continuarla: qué se preguntó, qué se encontró o decidió, qué queda pendiente. Conserva nombres, números y código. Escribe solo el resumen.",
        "fr": "Résume cette conversation pour quelqu'un qui doit la poursuivre : ce qui a été demandé, trouvé ou décidé, et ce qui reste ouvert. Garde les noms, les nombres et le code. N'écris que le résumé.",
        "zh": "请为接手的人总结这段对话：问了什么，发现或决定了什么，还有什么没有解决。保留名称、数字和代码。只写摘要。",
    },
}
