"""Prints what models see of the orchestrator's tools, as Open WebUI makes it.

`python -m tests.contract.orchestrator_in_host` loads the built file with Open WebUI's
own loader, in a process that is thrown away, and prints the result of its own generator
of tool specifications as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from devkit.paths import ROOT


async def main() -> None:
    from open_webui.utils.plugin import load_tool_module_by_id
    from open_webui.utils.tools import get_tool_specs

    text = (ROOT / "dist" / "model_orchestrator.py").read_text("utf-8")
    tools, *_ = await load_tool_module_by_id("model_orchestrator", content=text)
    specs = sorted(get_tool_specs(tools), key=lambda spec: spec["name"])
    sys.stdout.write(f"\n{json.dumps(specs)}\n")


if __name__ == "__main__":
    asyncio.run(main())
