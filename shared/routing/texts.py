"""What routing says to users, in each language.

Fields: agent, host (the upstream), position, total, seconds, tried (sentences, a line
each), model.
"""

ROUTING_TEXTS: dict[str, dict[str, str]] = {
    "waiting": {
        "en": "Waiting: position {position} of {total}",
        "de": "Warten: Platz {position} von {total}",
        "es": "En espera: puesto {position} de {total}",
        "fr": "En attente : position {position} sur {total}",
        "zh": "排队中：第 {position} 位，共 {total} 位",
    },
    "waiting_time": {
        "en": "Waiting: position {position} of {total}, about {seconds} s",
        "de": "Warten: Platz {position} von {total}, etwa {seconds} s",
        "es": "En espera: puesto {position} de {total}, unos {seconds} s",
        "fr": "En attente : position {position} sur {total}, environ {seconds} s",
        "zh": "排队中：第 {position} 位，共 {total} 位，约 {seconds} 秒",
    },
    "waited": {
        "en": "Waited {seconds} s",
        "de": "{seconds} s gewartet",
        "es": "Espera de {seconds} s",
        "fr": "Attente de {seconds} s",
        "zh": "已等待 {seconds} 秒",
    },
    "retrying": {
        "en": "{host} could not answer; trying again",
        "de": "{host} konnte nicht antworten; neuer Versuch",
        "es": "{host} no pudo responder; nuevo intento",
        "fr": "{host} n'a pas pu répondre ; nouvel essai",
        "zh": "{host} 无法回答，正在重试",
    },
    "answered_by": {
        "en": "{agent} could not answer; {model} answers instead",
        "de": "{agent} konnte nicht antworten; stattdessen antwortet {model}",
        "es": "{agent} no pudo responder; responde {model} en su lugar",
        "fr": "{agent} n'a pas pu répondre ; {model} répond à sa place",
        "zh": "{agent} 无法回答，由 {model} 代答",
    },
    "queue_busy": {
        "en": "{agent} is busy: too many are waiting. Please try again later.",
        "de": "{agent} ist ausgelastet: Zu viele warten. Bitte später noch einmal.",
        "es": "{agent} está ocupado: hay demasiados en espera. Inténtelo más tarde.",
        "fr": "{agent} est occupé : trop de demandes attendent. Réessayez plus tard.",
        "zh": "{agent} 正忙：排队人数过多，请稍后再试。",
    },
    "queue_busy_wait": {
        "en": "{agent} is busy. Please try again in about {seconds} s.",
        "de": "{agent} ist ausgelastet. Bitte in etwa {seconds} s noch einmal.",
        "es": "{agent} está ocupado. Inténtelo de nuevo en unos {seconds} s.",
        "fr": "{agent} est occupé. Réessayez dans environ {seconds} s.",
        "zh": "{agent} 正忙，请约 {seconds} 秒后再试。",
    },
    "queue_expired": {
        "en": "{agent} had no time for this within {seconds} s. Please try again later.",
        "de": "{agent} hatte binnen {seconds} s keine Zeit. Bitte später noch einmal.",
        "es": "{agent} no tuvo tiempo en {seconds} s. Inténtelo más tarde.",
        "fr": "{agent} n'a pas eu le temps en {seconds} s. Réessayez plus tard.",
        "zh": "{agent} 在 {seconds} 秒内没有空闲，请稍后再试。",
    },
    "upstreams_shut": {
        "en": "{agent} failed several times and is left alone for {seconds} s.",
        "de": "{agent} ist mehrmals gescheitert und wird {seconds} s in Ruhe gelassen.",
        "es": "{agent} falló varias veces; se le deja en paz {seconds} s.",
        "fr": "{agent} a échoué plusieurs fois ; on le laisse tranquille {seconds} s.",
        "zh": "{agent} 多次失败，暂停使用 {seconds} 秒。",
    },
    "all_attempts_failed": {
        "en": "Nobody could answer:\n{tried}",
        "de": "Niemand konnte antworten:\n{tried}",
        "es": "Nadie pudo responder:\n{tried}",
        "fr": "Personne n'a pu répondre :\n{tried}",
        "zh": "没有可用的回答者：\n{tried}",
    },
}
