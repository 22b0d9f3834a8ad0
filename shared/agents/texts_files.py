"""What the agents pipe says of files, in each language; see texts.py.

Fields: limit (MiB), names.
"""

FILE_TEXTS: dict[str, dict[str, str]] = {
    "files_not_given": {
        "en": "The files are over {limit} MiB together, so {agent} got only the text found in them.",
        "de": "Die Dateien sind zusammen größer als {limit} MiB, daher hat {agent} nur den darin gefundenen Text bekommen.",
        "es": "Los archivos superan juntos {limit} MiB, por lo que {agent} solo recibió el texto encontrado en ellos.",
        "fr": "Les fichiers dépassent ensemble {limit} Mio, {agent} n'a donc reçu que le texte qu'ils contiennent.",
        "zh": "文件合计超过 {limit} MiB，{agent} 只收到了其中提取的文字。",
    },
    "files_left_out": {
        "en": "Not attached, as they are too large or too many: {names}",
        "de": "Nicht angehängt, weil zu groß oder zu viele: {names}",
        "es": "No se adjuntaron, por ser demasiado grandes o demasiados: {names}",
        "fr": "Non joints, car trop volumineux ou trop nombreux : {names}",
        "zh": "因过大或过多而未附上：{names}",
    },
}
