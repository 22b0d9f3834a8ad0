"""What users read of agents that are programs. Fields as in texts.py, and: program,
wanted (a mode or model)."""

PROGRAM_TEXTS: dict[str, dict[str, str]] = {
    "program_missing": {
        "en": "{agent} cannot be started: the server has no program “{program}”. An administrator has to install it.",
        "de": "{agent} lässt sich nicht starten: Das Programm „{program}“ fehlt auf dem Server. Ein Administrator muss es installieren.",
        "es": "No se puede iniciar {agent}: el servidor no tiene el programa «{program}». Un administrador debe instalarlo.",
        "fr": "{agent} ne peut pas démarrer : le programme « {program} » manque sur le serveur. Un administrateur doit l'installer.",
        "zh": "无法启动 {agent}：服务器上没有程序“{program}”，请管理员安装。",
    },
    "program_ended": {
        "en": "{agent} ended in the middle of its work.{detail}",
        "de": "{agent} hat sich mitten in der Arbeit beendet.{detail}",
        "es": "{agent} terminó en mitad de su trabajo.{detail}",
        "fr": "{agent} s'est terminé au milieu de son travail.{detail}",
        "zh": "{agent} 在工作途中退出。{detail}",
    },
    "ssh_failed": {
        "en": "The ssh connection to {agent} failed. An administrator has to look into it.{detail}",
        "de": "Die ssh-Verbindung zu {agent} ist fehlgeschlagen. Ein Administrator muss nachsehen.{detail}",
        "es": "Falló la conexión ssh con {agent}. Un administrador debe revisarla.{detail}",
        "fr": "La connexion ssh à {agent} a échoué. Un administrateur doit s'en occuper.{detail}",
        "zh": "与 {agent} 的 ssh 连接失败，请管理员检查。{detail}",
    },
    "program_silent": {
        "en": "{agent} was started, but was not ready within {seconds} s.",
        "de": "{agent} wurde gestartet, war aber binnen {seconds} s nicht bereit.",
        "es": "{agent} se inició, pero no estuvo listo en {seconds} s.",
        "fr": "{agent} a démarré, mais n'était pas prêt en {seconds} s.",
        "zh": "{agent} 已启动，但在 {seconds} 秒内没有就绪。",
    },
    "too_many_programs": {
        "en": "{agent} is busy in {limit} chats, which is all it may do at once. Please try again later.",
        "de": "{agent} arbeitet gerade in {limit} Chats, mehr geht nicht zugleich. Bitte später noch einmal.",
        "es": "{agent} trabaja ya en {limit} chats, el máximo a la vez. Inténtelo más tarde.",
        "fr": "{agent} travaille déjà dans {limit} conversations, le maximum. Réessayez plus tard.",
        "zh": "{agent} 正在 {limit} 个对话中工作，已达上限，请稍后再试。",
    },
    "mode_unknown": {
        "en": "{agent} has no mode “{wanted}”. An administrator has to choose another.{detail}",
        "de": "{agent} kennt keinen Modus „{wanted}“. Ein Administrator muss einen anderen wählen.{detail}",
        "es": "{agent} no tiene el modo «{wanted}». Un administrador debe elegir otro.{detail}",
        "fr": "{agent} n'a pas de mode « {wanted} ». Un administrateur doit en choisir un autre.{detail}",
        "zh": "{agent} 没有模式“{wanted}”，请管理员另选。{detail}",
    },
    "model_unknown": {
        "en": "{agent} has no model “{wanted}”. An administrator has to choose another.{detail}",
        "de": "{agent} kennt kein Modell „{wanted}“. Ein Administrator muss ein anderes wählen.{detail}",
        "es": "{agent} no tiene el modelo «{wanted}». Un administrador debe elegir otro.{detail}",
        "fr": "{agent} n'a pas de modèle « {wanted} ». Un administrateur doit en choisir un autre.{detail}",
        "zh": "{agent} 没有模型“{wanted}”，请管理员另选。{detail}",
    },
}
