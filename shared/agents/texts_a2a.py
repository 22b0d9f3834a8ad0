"""What the agents pipe says of agents on servers, in each language; as in texts.py."""

A2A_TEXTS: dict[str, dict[str, str]] = {
    "address_refused": {
        "en": "{agent} refers to {host}, which it may not. An administrator can allow it with `allow_hosts`.",
        "de": "{agent} verweist auf {host}, was nicht erlaubt ist. Ein Administrator kann es mit `allow_hosts` erlauben.",
        "es": "{agent} remite a {host}, lo que no está permitido. Un administrador puede permitirlo con `allow_hosts`.",
        "fr": "{agent} renvoie à {host}, ce qui n'est pas permis. Un administrateur peut l'autoriser avec `allow_hosts`.",
        "zh": "{agent} 指向 {host}，这是不允许的。管理员可以用 `allow_hosts` 允许。",
    },
    "a2a_no_interface": {
        "en": "{agent} offers no way of speaking that is known here. An administrator has to check its agent card.",
        "de": "{agent} bietet keinen Weg an, der hier bekannt ist. Ein Administrator muss die Agent Card prüfen.",
        "es": "{agent} no ofrece ninguna interfaz conocida aquí. Un administrador debe revisar su tarjeta de agente.",
        "fr": "{agent} n'offre aucune interface connue ici. Un administrateur doit vérifier sa carte d'agent.",
        "zh": "{agent} 没有提供可用的接口，请管理员检查其代理卡。",
    },
    "agent_login_required": {
        "en": "{agent} needs a login of its own before it can go on.{detail}",
        "de": "{agent} braucht erst eine eigene Anmeldung, um fortzufahren.{detail}",
        "es": "{agent} necesita un inicio de sesión propio antes de continuar.{detail}",
        "fr": "{agent} a besoin d'une connexion qui lui est propre avant de continuer.{detail}",
        "zh": "{agent} 需要先完成自己的登录才能继续。{detail}",
    },
    "a2a_rejected": {
        "en": "{agent} declined this.{detail}",
        "de": "{agent} hat das abgelehnt.{detail}",
        "es": "{agent} lo rechazó.{detail}",
        "fr": "{agent} a décliné cette demande.{detail}",
        "zh": "{agent} 拒绝了此请求。{detail}",
    },
    "a2a_canceled": {
        "en": "This was stopped on the side of {agent}.{detail}",
        "de": "Dies wurde auf der Seite von {agent} abgebrochen.{detail}",
        "es": "Esto se detuvo por parte de {agent}.{detail}",
        "fr": "Ceci a été arrêté du côté de {agent}.{detail}",
        "zh": "此任务已在 {agent} 一侧停止。{detail}",
    },
}
