"""What the orchestrator's tools tell users and write into chats, in each language.

To add a language, add its code to every entry; what is missing appears in English.
Fields: model, models, asker, other (names), link (in Markdown), title, number, total,
tag.
"""

ORCHESTRATOR_TEXTS: dict[str, dict[str, str]] = {
    "asked_line": {
        "en": "({asker} asks, in {link}. This chat is “{title}”.)",
        "de": "({asker} fragt, in {link}. Dieser Chat heißt „{title}“.)",
        "es": "({asker} pregunta, en {link}. Este chat es «{title}».)",
        "fr": "({asker} demande, dans {link}. Cette conversation est « {title} ».)",
        "zh": "（{asker} 在 {link} 中提问。此对话是“{title}”。）",
    },
    "unsaved_chat": {
        "en": "a chat that is not saved",
        "de": "einem Chat, der nicht gespeichert ist",
        "es": "un chat que no está guardado",
        "fr": "une conversation non enregistrée",
        "zh": "未保存的对话",
    },
    "waiting_for_place": {
        "en": "{number} chats are running; {model} is next",
        "de": "{number} Chats laufen; {model} kommt danach",
        "es": "Hay {number} chats en curso; {model} es el siguiente",
        "fr": "{number} conversations en cours ; {model} est la suivante",
        "zh": "{number} 个对话正在进行，接下来是 {model}",
    },
    "asking": {
        "en": "Asking {model}",
        "de": "{model} wird gefragt",
        "es": "Preguntando a {model}",
        "fr": "{model} est consulté",
        "zh": "正在询问 {model}",
    },
    "started": {
        "en": "{model} answers in a chat of its own",
        "de": "{model} antwortet in einem eigenen Chat",
        "es": "{model} responde en su propio chat",
        "fr": "{model} répond dans sa propre conversation",
        "zh": "{model} 正在单独的对话中回答",
    },
    "answered": {
        "en": "{model} has answered",
        "de": "{model} hat geantwortet",
        "es": "{model} ha respondido",
        "fr": "{model} a répondu",
        "zh": "{model} 已回答",
    },
    "not_answered": {
        "en": "{model} gave no answer",
        "de": "{model} gab keine Antwort",
        "es": "{model} no dio respuesta",
        "fr": "{model} n'a pas répondu",
        "zh": "{model} 没有回答",
    },
    "stopped": {
        "en": "Stopped, with everything that was asked",
        "de": "Angehalten, mit allem, was gefragt wurde",
        "es": "Detenido, con todo lo que se preguntó",
        "fr": "Arrêté, avec tout ce qui a été demandé",
        "zh": "已停止，包括所有提问",
    },
    "collecting": {
        "en": "{number} of {total} chats have an answer",
        "de": "{number} von {total} Chats haben eine Antwort",
        "es": "{number} de {total} chats tienen respuesta",
        "fr": "{number} conversations sur {total} ont une réponse",
        "zh": "{total} 个对话中已有 {number} 个得到回答",
    },
    "talking": {
        "en": "{models} are talking",
        "de": "{models} reden miteinander",
        "es": "{models} están conversando",
        "fr": "{models} dialoguent",
        "zh": "{models} 正在对话",
    },
    "talked": {
        "en": "{models} have talked",
        "de": "{models} haben geredet",
        "es": "{models} han conversado",
        "fr": "{models} ont dialogué",
        "zh": "{models} 的对话已结束",
    },
    "tag_title": {
        "en": "Change a model's tags?",
        "de": "Tags eines Modells ändern?",
        "es": "¿Cambiar las etiquetas de un modelo?",
        "fr": "Changer les étiquettes d'un modèle ?",
        "zh": "更改模型的标签？",
    },
    "tag_add": {
        "en": "{asker} wants to add the tag `{tag}` to **{model}**.",
        "de": "{asker} möchte **{model}** den Tag `{tag}` geben.",
        "es": "{asker} quiere añadir la etiqueta `{tag}` a **{model}**.",
        "fr": "{asker} veut ajouter l'étiquette `{tag}` à **{model}**.",
        "zh": "{asker} 想给 **{model}** 添加标签 `{tag}`。",
    },
    "tag_remove": {
        "en": "{asker} wants to remove the tag `{tag}` from **{model}**.",
        "de": "{asker} möchte **{model}** den Tag `{tag}` nehmen.",
        "es": "{asker} quiere quitar la etiqueta `{tag}` de **{model}**.",
        "fr": "{asker} veut retirer l'étiquette `{tag}` de **{model}**.",
        "zh": "{asker} 想移除 **{model}** 的标签 `{tag}`。",
    },
    "graph_title": {
        "en": "Who works with whom",
        "de": "Wer mit wem arbeitet",
        "es": "Quién trabaja con quién",
        "fr": "Qui travaille avec qui",
        "zh": "模型之间的关系",
    },
    "graph_unknown": {
        "en": "no model of this name",
        "de": "kein Modell dieses Namens",
        "es": "ningún modelo con este nombre",
        "fr": "aucun modèle de ce nom",
        "zh": "没有此名称的模型",
    },
}
