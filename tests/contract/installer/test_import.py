"""Open WebUI's own ways to import: a file of many functions, and a link to one."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from devkit.manifest import Kind

pytestmark = pytest.mark.contract


def test_the_export_file_imports(admin, suite):
    """The import button posts every item of the file to /create."""
    export = json.loads((suite.root / "dist/aqueduct.json").read_text())
    tools = json.loads((suite.root / "dist/aqueduct-tools.json").read_text())
    assert [item["id"] for item in export] == ["test_pipe", "test_filter"]
    assert [item["id"] for item in tools] == ["test_tool"]
    for item in export:
        admin.create(Kind(item["type"]), item)
    for item in tools:
        admin.create(Kind.TOOL, item)
    assert admin.get(Kind.PIPE, "test_pipe").content == suite.text("test_pipe")
    assert admin.get(Kind.TOOL, "test_tool").content == suite.text("test_tool")


def test_a_built_file_imports_by_link(admin, openwebui, suite):
    """The id comes out of the address, name and description out of the frontmatter."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(suite.root / "dist"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        loaded = httpx.post(
            f"{openwebui.url}/api/v1/functions/load/url",
            json={"url": f"http://127.0.0.1:{server.server_port}/test_pipe.py"},
            headers={"Authorization": f"Bearer {openwebui.admin_token}"},
            trust_env=False,
        ).json()
    finally:
        server.shutdown()
        server.server_close()
    assert loaded == {"name": "test_pipe", "content": suite.text("test_pipe")}
    # The page takes the name for the id and lets the administrator save.
    admin.create(Kind.PIPE, loaded | {"id": loaded["name"], "meta": {}})
    frontmatter = admin.get(Kind.PIPE, "test_pipe").frontmatter
    assert frontmatter["title"] == "Test Pipe"
    assert frontmatter["description"] == "The test_pipe of the tests."
    assert frontmatter["required_open_webui_version"] == "0.12.0"
