"""The page that shows an administrator the routing, as one HTML document.

It holds no figures: its script fetches `routing.json`, which lies beside it, every two
seconds. Nothing is loaded from elsewhere, and the policy below lets nothing be.
"""

import json
from base64 import b64encode
from hashlib import sha256

from shared.routing.page_script import PAGE_SCRIPT
from shared.routing.page_style import PAGE_STYLE
from shared.routing.page_texts import PAGE_TEXTS

PAGE_HTML = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{PAGE_TEXTS["title"]["en"]}</title>
<style>{PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>{PAGE_TEXTS["title"]["en"]}</h1>
<p><time id="as-of"></time></p>
<button type="button"></button>
</header>
<p id="news" class="hidden" role="status"></p>
<div id="problem" role="alert"></div>
<main></main>
<script type="application/json" id="texts">{json.dumps(PAGE_TEXTS)}</script>
<script>{PAGE_SCRIPT}</script>
</body>
</html>
"""


def source_hash(text: str) -> str:
    """A script or style as a source of the Content Security Policy, level 3."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {source_hash(PAGE_SCRIPT)}",
        f"style-src {source_hash(PAGE_STYLE)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ]
)
